# Stands in for Slicer 5.8's CMake package, as far as a scripted extension uses it, and stricter: what Slicer would
# overlook (an argument too much, a misspelled name) is an error here, so that it is noticed before it ships.
set(Slicer_VERSION 5.8.1)
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/ExtensionGenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake")

# The layout of an installed extension on Linux and Windows; on macOS all of it lies in Slicer.app/Contents.
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.8/qt-scripted-modules")
set(Slicer_INSTALL_SHARE_DIR "share/Slicer-5.8")
