"""`python -m holdfast` is the command `holdfast`."""

import sys

from holdfast.cli.app import main

sys.exit(main())
