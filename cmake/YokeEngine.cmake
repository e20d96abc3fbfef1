# The engine: llama.cpp, fetched and built outside this build tree by tools/get_llama_cpp.py, so that
# a clean clone on the same machine finds it done. With YOKE_LLAMA_CPP_SOURCE it is built from that
# tree into the build tree, where yoke looks first.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(engine_command ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/get_llama_cpp.py)
if(YOKE_LLAMA_CPP_SOURCE)
  list(APPEND engine_command --source ${YOKE_LLAMA_CPP_SOURCE} --dest ${PROJECT_BINARY_DIR}/engines)
endif()
add_custom_target(engine COMMAND ${engine_command} USES_TERMINAL VERBATIM
                  COMMENT "Getting llama.cpp")
