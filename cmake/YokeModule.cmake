# yoke_module(NAME [ROOT modules] DEPS module... LIBS library... SOURCES file... HEADERS file... TESTS file...)
#
# One module of src/, or of the directory ROOT: a static library yoke_NAME that may include only its own headers and those of
# the modules in DEPS (tools/check_layers.py compares the includes with this list), one executable
# NAME_test out of TESTS, and a check that each header compiles by itself.
function(yoke_module name)
  cmake_parse_arguments(ARG "" "ROOT" "DEPS;LIBS;SOURCES;HEADERS;TESTS;TEST_LIBS" ${ARGN})
  set(target yoke_${name})
  set(root ${PROJECT_SOURCE_DIR}/src)
  if(ARG_ROOT)
    set(root ${PROJECT_SOURCE_DIR}/${ARG_ROOT})
  endif()
  add_library(${target} STATIC ${ARG_SOURCES})
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS ${root} FILES ${ARG_HEADERS})
  target_include_directories(${target} PUBLIC ${root})
  set_target_properties(${target} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  list(TRANSFORM ARG_DEPS PREPEND yoke_)
  target_link_libraries(${target} PUBLIC ${ARG_DEPS} ${ARG_LIBS})
  # The precompiled header is Asio's, and its functions are in yoke_io.
  set(uses_asio FALSE)
  if(name STREQUAL "io" OR "yoke_io" IN_LIST ARG_DEPS)
    set(uses_asio TRUE)
    target_precompile_headers(${target} REUSE_FROM yoke_pch)
  endif()

  if(YOKE_BUILD_TESTS AND ARG_TESTS)
    add_executable(${name}_test ${ARG_TESTS})
    target_link_libraries(${name}_test PRIVATE ${target} ${ARG_TEST_LIBS} GTest::gmock GTest::gtest GTest::gtest_main)
    # What tests expand to takes compilers twice as long to optimize, and nobody waits for it.
    target_compile_options(${name}_test PRIVATE -O0)
    if(uses_asio)
      target_precompile_headers(${name}_test REUSE_FROM yoke_asio_test_pch)
    else()
      target_precompile_headers(${name}_test REUSE_FROM yoke_test_pch)
    endif()
    add_dependencies(unit_tests ${name}_test)
    gtest_discover_tests(${name}_test TEST_PREFIX "unit." DISCOVERY_TIMEOUT 60
                         PROPERTIES TIMEOUT 120 LABELS unit)
    if(NOT YOKE_SANITIZER)
      # The same tests as built by the sanitizers' presets, so that one run of ctest has them all.
      foreach(preset asan tsan)
        add_test(NAME ${preset}.${name}
                 COMMAND ${PROJECT_SOURCE_DIR}/build/${preset}/${name}_test --gtest_brief=1)
        set_tests_properties(${preset}.${name} PROPERTIES TIMEOUT 300 LABELS "unit;${preset}")
      endforeach()
    endif()
  endif()
endfunction()

# yoke_test_pch(NAME HEADER LIBS...): precompiles HEADER for unit tests, which reuse it from NAME.
function(yoke_test_pch name header)
  # A precompiled header has to be compiled with the same options as its users.
  file(CONFIGURE OUTPUT ${name}.cc CONTENT "// Only there because of the precompiled header.\n")
  add_library(${name} OBJECT ${CMAKE_CURRENT_BINARY_DIR}/${name}.cc)
  target_compile_options(${name} PRIVATE -O0)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE GTest::gmock GTest::gtest fmt::fmt tl::expected ${ARGN})
  target_precompile_headers(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${header})
endfunction()
