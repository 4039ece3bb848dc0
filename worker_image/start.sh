# Process 1 of a worker's container: starts the worker, hands on what it is told, ends with the worker's exit code.
#
# The kernel drops a signal for process 1 that has no handler for it yet. A worker that was told to stop while its
# interpreter started never heard of it: it came up, took tasks, and was killed in the middle of them at the end of its
# grace period. As a child it has the default action until its own handler is there, and SIGTERM ends it: it holds
# nothing yet. A shell has its trap within a millisecond of its start.
asked=
worker=
tell() {
  # Until it executes Python it is a copy of this shell, with this shell's trap: a signal would be lost there.
  while [ "/proc/$worker/exe" -ef /proc/self/exe ]; do sleep 0.01; done
  kill -TERM "$worker" 2>/dev/null
}
trap 'asked=yes; [ -z "$worker" ] || tell' TERM INT
"${MILLPOND_PYTHON:-/opt/millpond/bin/python}" -m millpond.worker &
worker=$!
[ -z "$asked" ] || tell
while :; do
  # A signal ends the waiting, not the worker.
  wait "$worker"
  code=$?
  kill -0 "$worker" 2>/dev/null || break
done
# 143: ended by SIGTERM's default action, before it had begun. It was asked to, so that is no failure.
if [ -n "$asked" ] && [ "$code" -eq 143 ]; then code=0; fi
exit "$code"
