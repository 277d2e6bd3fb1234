# SPDX-License-Identifier: Apache-2.0
"""moto server on 127.0.0.1, port as told, with the mends of mends.py applied before it serves."""

import pathlib
import runpy
import sys

from moto.server import main

runpy.run_path(str(pathlib.Path(__file__).with_name("mends.py")))
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
