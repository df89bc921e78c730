# filo_embed(TARGET SOURCE PATH=FILE...): adds to TARGET a generated source that defines filo::service::assets(), the table
# of what the server has in it: each FILE's bytes under the PATH of its address. See service/assets.hpp.
function(filo_embed target output)
  set(paths "")
  set(files "")
  foreach(pair ${ARGN})
    string(REGEX MATCH "^([^=]+)=(.+)$" matched ${pair})
    list(APPEND paths ${CMAKE_MATCH_1})
    list(APPEND files ${CMAKE_MATCH_2})
  endforeach()
  list(JOIN paths "," paths_joined)
  list(JOIN files "," files_joined)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} -DPATHS=${paths_joined} -DFILES=${files_joined} -P ${CMAKE_SOURCE_DIR}/cmake/EmbedFiles.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/EmbedFiles.cmake
    COMMENT "Embedding the page" VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
