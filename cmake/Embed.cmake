# filo_embed(TARGET SOURCE NAME=FILE...): adds to TARGET a generated source that defines the bytes of each FILE; see
# service/assets.cpp for its other half.
function(filo_embed target output)
  set(names "")
  set(files "")
  foreach(pair ${ARGN})
    string(REGEX MATCH "^([^=]+)=(.+)$" matched ${pair})
    list(APPEND names ${CMAKE_MATCH_1})
    list(APPEND files ${CMAKE_MATCH_2})
  endforeach()
  list(JOIN names "," names_joined)
  list(JOIN files "," files_joined)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} -DNAMES=${names_joined} -DFILES=${files_joined} -P ${CMAKE_SOURCE_DIR}/cmake/EmbedFiles.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/EmbedFiles.cmake
    COMMENT "Embedding ${names_joined}" VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
