# Names the extension after its project, turns testing on, and gives the two macros that LightSeg calls.
set(EXTENSION_NAME "${PROJECT_NAME}")
include(CTest) # which sets BUILD_TESTING, ON unless it is said otherwise

# A file that is listed and is there is installed with its folders, scripts and resources alike. Nothing else is.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(PARSE_ARGV 0 THE "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES")
  _all_arguments_were_understood(slicerMacroBuildScriptedModule)
  if(NOT "${THE_NAME}.py" IN_LIST THE_SCRIPTS)
    message(FATAL_ERROR "SCRIPTS of the module '${THE_NAME}' lack ${THE_NAME}.py")
  endif()
  foreach(file IN LISTS THE_SCRIPTS THE_RESOURCES)
    set(source "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
    if(NOT EXISTS "${source}" OR IS_DIRECTORY "${source}")
      message(FATAL_ERROR "The module '${THE_NAME}' lists '${file}', which is no file")
    endif()
    get_filename_component(folder "${file}" DIRECTORY)
    install(FILES "${source}" DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder}")
  endforeach()
  # The generic tests open the module in the application, which is not here.
endfunction()

# A test that loads a script by its name, as slicer.testing.runUnitTest does, in Slicer's scene without its window.
function(slicer_add_python_unittest)
  cmake_parse_arguments(PARSE_ARGV 0 THE "" "SCRIPT" "")
  _all_arguments_were_understood(slicer_add_python_unittest)
  get_filename_component(script "${THE_SCRIPT}" ABSOLUTE)
  if(NOT EXISTS "${script}")
    message(FATAL_ERROR "slicer_add_python_unittest: '${THE_SCRIPT}' is no file")
  endif()
  get_filename_component(name "${script}" NAME_WE)
  add_test(NAME "py_${name}" COMMAND "${Slicer_LAUNCHER_EXECUTABLE}" "${Slicer_UNIT_TEST_RUNNER}" "${name}")
endfunction()

function(_all_arguments_were_understood function)
  if(THE_UNPARSED_ARGUMENTS OR THE_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "${function}: unknown or empty: ${THE_UNPARSED_ARGUMENTS} ${THE_KEYWORDS_MISSING_VALUES}")
  endif()
endfunction()
