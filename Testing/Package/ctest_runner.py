"""Runs the tests of a module by its name, as Slicer's ctest does: python ctest_runner.py LightSeg."""

import sys
import unittest

import fakes

fakes.install()
tests = unittest.defaultTestLoader.loadTestsFromName(sys.argv[1])
sys.exit(not unittest.TextTestRunner(verbosity=2).run(tests).wasSuccessful())
