# The server behind `filo serve` and its page (web/). Beast takes long to compile: only *_session.cpp include it.
target_sources(filo_scheduler PRIVATE
  http/api.cpp http/api_json.cpp http/assets.cpp http/bench_events.cpp http/event_hub.cpp http/event_streams.cpp http/message.cpp http/monitor.cpp
  http/plain_session.cpp http/router.cpp http/serve.cpp http/server.cpp http/stage_files.cpp http/tls_session.cpp http/token.cpp
  http/view.cpp)
target_link_libraries(filo_scheduler PUBLIC Boost::headers OpenSSL::SSL)
target_compile_definitions(filo_scheduler PRIVATE BOOST_ASIO_NO_DEPRECATED)
find_file(FILO_CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js NO_DEFAULT_PATH REQUIRED)  # libjs-chart.js
set(web ${CMAKE_CURRENT_SOURCE_DIR}/web)
filo_embed(filo_scheduler ${CMAKE_CURRENT_BINARY_DIR}/embedded_files.cpp
  page=${web}/index.html script=${web}/app.js style=${web}/style.css icon=${web}/icon.svg chart=${FILO_CHART_JS}
  openapi=${CMAKE_CURRENT_SOURCE_DIR}/http/openapi.json)
