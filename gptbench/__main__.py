"""`python -m gptbench` is the command `gptbench`."""

import sys

from gptbench.cli.main import main

sys.exit(main())
