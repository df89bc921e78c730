# `make install` (cmake --install): see cmake/README.md. GNUInstallDirs' folders; nothing refers to PREFIX, so that the tree can be moved.
install(TARGETS filo filo-worker)
install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/filo)
install(FILES LICENSE NOTICE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Man pages and completions are what the programs' --help says, at the time of installing.
set(manual ${CMAKE_BINARY_DIR}/manual)
install(CODE "execute_process(COMMAND python3 ${CMAKE_SOURCE_DIR}/tools/manual ${manual} $<TARGET_FILE:filo> $<TARGET_FILE:filo-worker> COMMAND_ERROR_IS_FATAL ANY)")
install(DIRECTORY ${manual}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
install(DIRECTORY ${manual}/bash/ DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(DIRECTORY ${manual}/zsh/ DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)

# find_package(filo): the rooms without LibTorch and MPI (docs/decisions/057-what-the-package-offers.md).
set(offered base settings workspace checkpoint data)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/filo)
foreach(room ${offered})
  set_target_properties(filo_${room} PROPERTIES EXPORT_NAME ${room})
  target_compile_features(filo_${room} PUBLIC cxx_std_20)
  target_include_directories(filo_${room} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/filo>)
  install(TARGETS filo_${room} EXPORT filo ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY ${room} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/filo FILES_MATCHING PATTERN "*.hpp")
endforeach()
install(EXPORT filo NAMESPACE filo:: FILE filoTargets.cmake DESTINATION ${package})
install(FILES cmake/filoConfig.cmake cmake/Libraries.cmake DESTINATION ${package})
include(CMakePackageConfigHelpers)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/filoConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/filoConfigVersion.cmake DESTINATION ${package})
