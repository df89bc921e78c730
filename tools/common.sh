# Sourced by the scripts of tools/: messages, and slow commands that show they are alive.
say() { printf '[%s] %s\n' "$tool" "$*" >&2; }
die() { printf '%s: %s\n' "$tool" "$*" >&2; exit 1; }

# with_progress TEXT COMMAND...: runs the command with its output in .deps/TOOL.log, and shows TEXT and the seconds gone by
# (one line that counts on a terminal, a line every half minute elsewhere). Returns the command's status; shows the log's
# end when that is not 0.
with_progress() {
  local text=$1 log=.deps/$tool.log start=$SECONDS pid status=0 last=0
  shift
  say "$text"
  mkdir -p .deps
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  trap 'kill $pid 2>/dev/null; exit 130' INT TERM  # a background job does not see the terminal's Ctrl-C
  while kill -0 $pid 2>/dev/null; do
    sleep 0.2
    if [ -t 2 ]; then
      printf '\r[%s]   %d s ' "$tool" $((SECONDS - start)) >&2
    elif [ $((SECONDS - start - last)) -ge 30 ]; then
      last=$((SECONDS - start))
      say "  still at it, $last s"
    fi
  done
  wait $pid || status=$?
  trap - INT TERM
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
  if [ $status -ne 0 ]; then
    tail -n 15 "$log" >&2
    say "(the whole output: $log)"
  fi
  return $status
}

# nvcc's path, or nothing. CUDA's installers leave it off the PATH.
find_nvcc() {
  [ "${FILO_CUDA:-AUTO}" = OFF ] && return 0
  command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true
}
