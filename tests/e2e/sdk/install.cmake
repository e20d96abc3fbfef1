# cmake -DDEST=DIR -P install.cmake
#
# Puts the SDKs and their tests into DIR. npm runs only if the lock file is not the one that was
# installed last.
set(source ${CMAKE_CURRENT_LIST_DIR})
file(GLOB files ${source}/*.json ${source}/*.mjs ${source}/.npmrc)
file(COPY ${files} DESTINATION ${DEST})

file(SHA256 ${source}/package-lock.json wanted)
set(installed "")
if(EXISTS ${DEST}/installed)
  file(READ ${DEST}/installed installed)
endif()
if(installed STREQUAL wanted)
  return()
endif()

find_program(npm npm REQUIRED)
file(REMOVE ${DEST}/installed)
execute_process(COMMAND ${npm} ci --prefer-offline --loglevel=error WORKING_DIRECTORY ${DEST}
                TIMEOUT 280 COMMAND_ERROR_IS_FATAL ANY)
file(WRITE ${DEST}/installed ${wanted})
