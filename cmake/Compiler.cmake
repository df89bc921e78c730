# Flags and helpers common to all rooms.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # GCC's precompiled headers are cached only with these two laxities (ccache manual, "Precompiled headers").
  set(filo_ccache ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${filo_ccache})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${filo_ccache})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2")  # asserts stay on: they guard our own bugs, and cost nothing where it matters

add_library(filo_flags INTERFACE)
target_compile_options(filo_flags INTERFACE
  # -fPIC everywhere: libraries and programs share one precompiled header.
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror -fPIC -fpch-preprocess>)
target_include_directories(filo_flags INTERFACE ${CMAKE_SOURCE_DIR})
# A section a function, and those that nobody calls are left out: the programs are a tenth smaller.
target_compile_options(filo_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ffunction-sections -fdata-sections>)
target_link_options(filo_flags INTERFACE -Wl,--as-needed -Wl,--gc-sections)
if(FILO_SANITIZE)
  list(JOIN FILO_SANITIZE "," filo_sanitize)
  target_compile_options(filo_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${filo_sanitize} -fno-omit-frame-pointer>)
  target_link_options(filo_flags INTERFACE -fsanitize=${filo_sanitize})
  if(FILO_SANITIZE STREQUAL "thread")
    # Boost.Asio's fences, which TSan does not know, order nothing here: its mutexes and the kernel do.
    target_compile_options(filo_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-tsan>)
  endif()
endif()

# filo_room(NAME SOURCES ... LINKS ... [TORCH]): one static library per folder.
# TORCH: the sources include torch headers and share the one precompiled header.
function(filo_room name)
  cmake_parse_arguments(room "TORCH" "" "SOURCES;LINKS" ${ARGN})
  add_library(filo_${name} STATIC ${room_SOURCES})
  target_link_libraries(filo_${name} PUBLIC $<BUILD_INTERFACE:filo_flags> ${room_LINKS})
  if(room_TORCH)
    filo_use_torch(filo_${name})
  endif()
endfunction()

# Links LibTorch and reuses its precompiled header (a file that includes torch takes 20 s to compile without).
function(filo_use_torch target)
  target_link_libraries(${target} PUBLIC filo::torch)
  set_target_properties(${target} PROPERTIES BUILD_RPATH "${torch_rpath}" INSTALL_RPATH "${FILO_TORCH_RPATH}" INSTALL_RPATH_USE_LINK_PATH ON)
  target_precompile_headers(${target} REUSE_FROM filo_torch_pch)
endfunction()
