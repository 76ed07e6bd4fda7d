#!/bin/sh
# Written by ae-pipeline, which replaces it: runs a stage of dvc.yaml, as `sh .dvc/stage train --recipe recipes/shoes.yaml ...`.
# AE_RUN_ON names the place where a run trains; a `dvc repro` that somebody types trains here.
# AE_PYTHON names the Python of the `ae` that started DVC. Where it is not set, as by a `dvc repro` that somebody types, it is the
# first of these that has ae-pipeline: the activated environment's, that of the last `ae` in this folder, that of .venv in this
# folder, that of the `ae` on the PATH, and python3. The rest of the environment (proxies, certificates) stays as it is.
has_pipeline() {
  [ -x "$1" ] && "$1" -P -c 'import importlib.util as u, sys; sys.exit(u.find_spec("aeops") is None)' 2>/dev/null
}
find_python() {
  for environment in "$VIRTUAL_ENV" "$CONDA_PREFIX"; do
    [ -n "$environment" ] && has_pipeline "$environment/bin/python" && echo "$environment/bin/python" && return
  done
  if [ -f .dvc/tmp/ae-python ]; then
    last=$(cat .dvc/tmp/ae-python)
    has_pipeline "$last" && echo "$last" && return
  fi
  has_pipeline "$PWD/.venv/bin/python" && echo "$PWD/.venv/bin/python" && return
  program=$(command -v ae) && first=$(head -n 1 "$program" 2>/dev/null | tr -d '\000')
  has_pipeline "${first#??}" && echo "${first#??}" && return
  program=$(command -v python3) && has_pipeline "$program" && echo "$program"
}
python=${AE_PYTHON:-$(find_python)}
if [ -z "$python" ]; then
  echo "no Python with ae-pipeline was found: activate its environment, or set AE_PYTHON to its python" >&2
  exit 127
fi
stage=${1%%:*} # what follows a colon is the hash of the project's own code, by which DVC sees that it has changed
shift
case "$stage $AE_RUN_ON" in # where a run trains on a cluster
"train ray"*) exec "$python" -m aeops.places.run_stage "$stage" "$@" ;;
esac
exec "$python" -m "aeops.stages.$stage" "$@"
