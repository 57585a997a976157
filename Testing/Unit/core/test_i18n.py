"""Messages are English strings that can still be shown in another language, also those of another process."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.core.errors import InputError
from LightSegLib.core.i18n import Message, dumps, loads
from LightSegLib.core.i18n import tr as _

GERMAN = {
    "{file} has {count} voxels of {spacing:.1f} mm.": "{file} hat {count} Voxel von {spacing:.1f} mm.",
    "it is empty": "sie ist leer",
    "{file} cannot be read: {reason}. Choose another file.": "{file} ist nicht lesbar: {reason}. Andere Datei wählen.",
    "Reading": "Lesen",
}


def german(context: str, template: str) -> str:
    assert context == "core.test_i18n", "the folder and the file of the source, as in Slicer"
    return GERMAN.get(template, template)


def test_a_message_is_an_english_string_and_can_be_german():
    message = _("{file} has {count} voxels of {spacing:.1f} mm.").format(
        file="a.nii", count=np.int64(7), spacing=np.float32(1.25)
    )

    assert message == "a.nii has 7 voxels of 1.2 mm."
    assert message.translated(german) == "a.nii hat 7 Voxel von 1.2 mm."
    assert _("Reading").translated(german) == "Lesen"
    assert _("50 % {of} it").translated(german) == "50 % {of} it", "braces are fields only where fields are given"


def test_a_message_in_a_message_is_translated_too():
    reason = ValueError(_("it is empty"))
    error = InputError(_("{file} cannot be read: {reason}. Choose another file.").format(file="a.nii", reason=reason))

    assert str(error) == "a.nii cannot be read: it is empty. Choose another file."
    assert error.args[0].translated(german) == "a.nii ist nicht lesbar: sie ist leer. Andere Datei wählen."


@pytest.mark.parametrize(
    "travel", [lambda value: loads(dumps(value)), lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy]
)
def test_it_stays_a_message_on_its_way_to_another_process(travel):
    inner = _("it is empty")
    message = _("{file} cannot be read: {reason}. Choose another file.").format(file="a.nii", reason=inner)

    arrived = travel({"notices": [message], "tile": 1})["notices"][0]

    assert arrived == message and arrived.translated(german).startswith("a.nii ist nicht lesbar: sie ist leer.")


def test_for_all_other_json_it_is_a_string():
    assert json.dumps([_("Reading")]) == '["Reading"]'


def test_a_wrong_translation_gives_english():
    message = _("{file} is empty.").format(file="a.nii")

    for wrong in ("{datei} ist leer.", "{file ist leer.", "{file:q} ist leer.", "{0} ist leer."):
        assert message.translated(lambda context, template, wrong=wrong: wrong) == "a.nii is empty."


def test_fields_show_no_password_and_do_nothing_to_a_terminal():
    message = _("{source} sent {text}.").format(source="https://me:secret@host/x", text="\x1b[2J")

    assert message == "https://host/x sent \\u001b[2J."


@pytest.mark.parametrize(
    "field", ["{file.__class__}", "{file:999999999}", "{file[0]}", "{file:{width}}", "{}", "{other}"]
)
def test_a_file_with_a_message_cannot_read_objects_or_fill_memory(field):
    stranger = json.dumps({"template": field, "context": "a.b", "fields": {"file": "x", "width": 9}})

    with pytest.raises(ValueError, match="not a field"):
        loads(stranger)


@pytest.mark.parametrize(
    "stranger",
    [
        {"template": 1, "context": "a.b", "fields": None},
        {"template": "x", "context": ["a.b"], "fields": {}},
        {"template": "x", "context": "a.b", "fields": ["x"]},
    ],
)
def test_a_file_with_a_message_of_other_kinds_is_refused(stranger):
    with pytest.raises(ValueError, match=r"of a message have names|a message has a text"):
        loads(json.dumps(stranger))


def test_a_text_with_braces_and_no_fields_arrives_as_it_is():
    text = loads(dumps(Message("Use {file} in names.", "a.b")))

    assert text == "Use {file} in names."
    assert text.translated(lambda context, template: "{file} verwenden.") == "{file} verwenden."


def test_other_objects_are_left_alone():
    assert loads(dumps({"template": 1, "shape": (2, 3)})) == {"template": 1, "shape": [2, 3]}
    assert isinstance(loads(dumps(_("Reading"))), Message)


def test_no_function_that_marks_texts_uses_the_name_for_something_else():
    """`_` as the name of what is not needed would hide it in the whole function, and a message would be an error."""
    from symtable import SymbolTable, symtable

    def functions(table: SymbolTable) -> Iterator[SymbolTable]:
        for inner in table.get_children():
            yield from functions(inner)
            if inner.get_type() == "function":
                yield inner

    library = Path(__file__).resolve().parents[3] / "LightSeg" / "LightSegLib"
    for path in library.rglob("*.py"):
        for function in functions(symtable(path.read_text(encoding="utf-8"), str(path), "exec")):
            if "_" in function.get_identifiers():
                name = function.lookup("_")
                assert not (name.is_referenced() and name.is_assigned()), f"{path}, {function.get_name()}"
