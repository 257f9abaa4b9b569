# SPDX-License-Identifier: Apache-2.0
#
# The CMake targets that come with the ROS wheels of PyPI list include directories of the machine
# that built them (/opt/python/...), and CMake stops on directories that do not exist. colcon.meta
# injects this file with CMAKE_PROJECT_INCLUDE; when the project is configured, those directories
# are taken out of every imported target. With a ROS 2 from apt it finds nothing to do.

function(_drop_wheel_builder_paths)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories)
      list(FILTER directories EXCLUDE REGEX "^/opt/python/")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${directories}")
    endif()
  endforeach()
endfunction()

if(NOT _drop_wheel_builder_paths_deferred)
  set(_drop_wheel_builder_paths_deferred TRUE)
  cmake_language(DEFER CALL _drop_wheel_builder_paths)
endif()
