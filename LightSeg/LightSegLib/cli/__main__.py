"""`python -m LightSegLib.cli`."""

import sys

from .main import main

sys.exit(main())
