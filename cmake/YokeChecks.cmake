# Checks of the code itself, as tests "check.*". They say the same under a sanitizer, so they run in
# the other builds only.
if(YOKE_SANITIZER)
  return()
endif()

function(yoke_check name)
  cmake_parse_arguments(ARG "" "TIMEOUT;PROCESSORS" "COMMAND" ${ARGN})
  add_test(NAME check.${name} COMMAND ${ARG_COMMAND} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(check.${name} PROPERTIES LABELS check TIMEOUT ${ARG_TIMEOUT})
  if(ARG_PROCESSORS)
    set_tests_properties(check.${name} PROPERTIES PROCESSORS ${ARG_PROCESSORS})
  endif()
endfunction()

cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
set(tools ${PROJECT_SOURCE_DIR}/tools)

yoke_check(layers TIMEOUT 60 COMMAND ${Python3_EXECUTABLE} ${tools}/check_layers.py)
yoke_check(style TIMEOUT 60 COMMAND ${Python3_EXECUTABLE} ${tools}/check_style.py)
yoke_check(selftest TIMEOUT 120 COMMAND ${Python3_EXECUTABLE} ${tools}/checks_test.py)
yoke_check(format TIMEOUT 120 COMMAND bash ${tools}/lint.sh format)
# From nothing this takes minutes; a second run looks only at what changed.
yoke_check(tidy TIMEOUT 1200 PROCESSORS ${cores}
           COMMAND bash ${tools}/lint.sh tidy ${PROJECT_BINARY_DIR}/tidy)
# Every header of a module compiles by itself.
yoke_check(headers TIMEOUT 900 PROCESSORS ${cores}
           COMMAND ${CMAKE_COMMAND} --build ${PROJECT_BINARY_DIR} --parallel ${cores}
                   --target all_verify_interface_header_sets)
