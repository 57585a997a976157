# By this file, written last, other extensions find this one.
if(NOT EXTENSION_NAME)
  message(FATAL_ERROR "There is no extension: include(\${Slicer_USE_FILE}) first")
endif()
file(WRITE "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}Config.cmake" "set(${EXTENSION_NAME}_FOUND 1)\n")
