# yoke_module(NAME DEPS module... LIBS library... SOURCES file... HEADERS file... TESTS file...)
#
# One module of src/: a static library yoke_NAME that may include only its own headers and those of
# the modules in DEPS (tools/check_layers.py compares the includes with this list), one executable
# NAME_test out of TESTS, and a check that each header compiles by itself.
function(yoke_module name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS;SOURCES;HEADERS;TESTS;TEST_LIBS" ${ARGN})
  set(target yoke_${name})
  add_library(${target} STATIC ${ARG_SOURCES})
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/src FILES ${ARG_HEADERS})
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  set_target_properties(${target} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  list(TRANSFORM ARG_DEPS PREPEND yoke_)
  target_link_libraries(${target} PUBLIC ${ARG_DEPS} ${ARG_LIBS})
  if(TARGET yoke_pch AND NOT name STREQUAL "base")
    target_precompile_headers(${target} REUSE_FROM yoke_pch)
    target_link_libraries(${target} PUBLIC Threads::Threads)
  endif()

  if(YOKE_BUILD_TESTS AND ARG_TESTS)
    add_executable(${name}_test ${ARG_TESTS})
    target_link_libraries(${name}_test PRIVATE ${target} ${ARG_TEST_LIBS} GTest::gmock GTest::gtest GTest::gtest_main)
    if(TARGET yoke_pch AND NOT name STREQUAL "base")
      target_precompile_headers(${name}_test REUSE_FROM yoke_pch)
    endif()
    gtest_discover_tests(${name}_test TEST_PREFIX "unit." DISCOVERY_TIMEOUT 60
                         PROPERTIES TIMEOUT 120 LABELS unit)
  endif()
endfunction()
