"""Where the system has no `fcntl`, the package works all the same."""

import subprocess
import sys

CODE = """
import sys
sys.modules["fcntl"] = None
import lowdim
for name in lowdim.__all__:
    getattr(lowdim, name)
import numpy as np
lowdim.DeepMatrixCompletion(solver="table").fit_transform(np.where(np.eye(6), np.nan, np.add.outer(range(6), range(6))))
import shlex
from lowdim.cli import main
for line in sys.argv[1:]:
    sys.argv = ["lowdim", *shlex.split(line)]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code
"""
LINES = {
    "measured": "measure --model digits --data digits --limit 40 --layers head:input --out measured",
    "completed": "complete table.csv --out completed",
}


def test_commands_run_and_lock_their_folder(tmp_path):
    (tmp_path / "table.csv").write_text("a,b,c\n1,2,3\n2,,6\n3,6,9\n4,8,\n5,10,15\n")
    run = subprocess.run(
        [sys.executable, "-c", CODE, *LINES.values()], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stderr
    for folder in LINES:
        assert (tmp_path / folder / "manifest.json").is_file()
        assert not (tmp_path / folder / ".lock").exists()
