"""What goes into a report names no patient: not by a folder, a file, a volume or an item of the scene."""

from __future__ import annotations

from pathlib import Path

import pytest
from LightSegLib.core.anonymous import anonymous


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The file /home/jane/My Data/DOE JOHN.nii.gz could not be read.", "The file <path>.nii.gz could not be read."),
        (r"C:\Users\Jane Doe\scans\x.nrrd is empty", "<path>.nrrd is empty"),
        (r"\\server\share\DOE^JANE\1.dcm: no image", "<path>.dcm: no image"),
        ("in (/data/DOE JOHN).", "in (<path>)."),
        ("The folder /data/DOE JOHN 1999 holds nothing.", "The folder <path> holds nothing."),
        ("see ~/secret/DOE", "see <path>"),
        ("file:///home/jane/b.nii and more", "<path> and more"),
        ("path=/data/p/DOE.nii;x", "path=<path>.nii;x"),
    ],
)
def test_paths_are_replaced(text, expected):
    assert anonymous(text) == expected


def test_the_users_folder_is_replaced_whatever_it_is_called():
    assert str(Path.home()) not in anonymous(f"{Path.home()}/x and '{Path.home()}'")


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/lightseg/SlicerLightSeg/blob/main/README.md",
        "1/2 tiles at 3 m/s, and/or 4 / 5",
        "R, A, S / mm",
    ],
)
def test_what_is_not_a_path_stays(text):
    assert anonymous(text) == text


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ('File "/opt/Slicer 5/lib/python3.12/site-packages/torch/nn.py", line 3', "site-packages/torch/nn.py"),
        ('File "/home/jane/ext/LightSegLib/worker/server.py", line 12', "LightSegLib/worker/server.py"),
    ],
)
def test_a_traceback_still_states_where_in_a_program(line, kept):
    found = anonymous(line)
    assert kept in found and "jane" not in found and "opt" not in found and found.endswith(line[-6:])


def test_names_are_replaced_as_whole_words_longest_first():
    names = ["DOE^JOHN", "DOE^JOHN T1", "A"]
    assert (
        anonymous("DOE^JOHN T1 and DOE^JOHN lie in A; DOE^JOHNSON", names) == "<name> and <name> lie in A; DOE^JOHNSON"
    )
