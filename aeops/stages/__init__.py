"""The stages of a run, each a module that DVC or a flow starts as a process: `python -m aeops.stages.train ...`."""

import sys

from aeops.machine.garbage_collection import collect_rarely
from aeops.machine.library_settings import let_waiting_threads_sleep
from aeops.machine.parent_process import die_with_parent

if sys.argv[:1] == ["-m"]:  # Python looks for the module to run: this comes before the stage's imports, which take seconds
    die_with_parent()
    let_waiting_threads_sleep()
    collect_rarely()
