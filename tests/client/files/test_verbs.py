"""What both ends of a sync are told."""

import os
import subprocess
import sys

from tests.needs import need_root

PROGRAM = """
import os
from mlepool.client.files.verbs import tree_options
os.setuid(54321)
print(tree_options((), ())[1].owner)
"""


def test_an_account_without_a_name_syncs_too():
    need_root()
    names = ("LOGNAME", "USER", "LNAME", "USERNAME")
    env = {key: value for key, value in os.environ.items() if key not in names}
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("account 54321 on "), done.stderr
