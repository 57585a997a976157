"""Finding a model, and its weights: from a server, from a file, away again."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import qt
from http_server import Answer, Server
from LightSegLib.catalog.card import Source, Weights
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.catalog.lookup import CARD_NAME, all_cards
from LightSegLib.catalog.offers import by_task, without_parts
from LightSegLib.weights.store import WeightStore
from stored_weights import in_parts
from user_actions import wait_until

SLIM, LUNG, HEART = "heart-ct-slim-unetrv2", "lung-tumor-ct-unetrpp", "heart-mr-unetrpp"


def shown(window):
    """The models that the list shows or has in a folded family, by title."""
    tree, titles = window.ui.modelTree, []
    for number in range(tree.topLevelItemCount):
        group = tree.topLevelItem(number)
        items = [group.child(n) for n in range(group.childCount())]
        titles += [item.text(0).partition("\n")[0] for item in items if not item.isHidden()]
    return titles


def listed_titles():
    """The titles of all tasks, each as its best model has it, without those of parts."""
    return sorted(task[0].title for task in by_task(without_parts(all_cards())))


def click(window, title):
    """Click a model in the list, which folds."""
    tree = window.ui.modelTree
    window.ui.changeButton.setChecked(True)
    (item,) = [i for i in tree.findItems(title, qt.Qt.MatchRecursive | qt.Qt.MatchStartsWith) if not i.isHidden()]
    tree.setCurrentItem(item)
    tree.itemClicked.emit(item, 0)
    assert not window.ui.modelChooser.visible and window.ui.chosenLabel.visible


def test_the_list_is_grouped_searched_and_chosen_from(window, screenshot):
    tree = window.ui.modelTree
    assert [tree.topLevelItem(n).text(0) for n in range(2)] == ["CT", "MR"]
    assert sorted(shown(window)) == listed_titles()
    window.ui.modelSearch.setText("heart ct")
    assert "Whole heart (CT, MM-WHS, Slim UNETRV2)" in shown(window)
    assert "Liver" not in "".join(shown(window))
    assert tree.topLevelItem(1).isHidden(), "no empty groups"
    click(window, "Whole heart")
    screenshot("search")
    assert window.logic.getParameterNode().modelId == SLIM
    page = window.ui.modelDetails.plainText
    assert page.startswith("Whole heart (CT, MM-WHS, Slim UNETRV2)"), "the list may have no room for the whole title"
    assert "left ventricle" in page.lower() and "License:" in page and "Unverified" in page
    window.ui.modelSearch.setText("nothing like this")
    assert shown(window) == []
    window.ui.modelSearch.setText("")
    assert sorted(shown(window)) == listed_titles() and window.logic.getParameterNode().modelId == SLIM


def test_the_chosen_model_is_in_one_line_and_what_is_known_in_three(window):
    ui = window.ui
    assert ui.chosenLabel.text == "Hippocampus (T1 MRI)" and not ui.modelChooser.visible
    facts = [ui.modelFacts.item(number).text() for number in range(ui.modelFacts.count)]
    assert facts == [
        "Segments: Anterior hippocampus, Posterior hippocampus",
        "Input: MR, T1; a region of 35 x 50 x 40 mm",
        "Dice 0.885 by cross-validation on 200 cases; weights: bundled",
    ]
    assert not ui.modelDetails.visible
    ui.moreButton.click()
    assert ui.modelDetails.visible and not ui.modelFacts.visible and ui.moreButton.text == "Less"
    ui.moreButton.click()
    assert ui.modelFacts.visible and not ui.modelDetails.visible


def test_the_keyboard_walks_through_the_list_and_enter_takes_the_model(window):
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    window.ui.changeButton.click()
    assert window.ui.modelChooser.visible and window.ui.changeButton.text == "Close"
    QTest.keyClick(window.ui.modelTree, Qt.Key.Key_Up)
    QTest.keyClick(window.ui.modelTree, Qt.Key.Key_Up)
    walked = window.models.card.title
    assert walked != "Hippocampus (T1 MRI)" and window.ui.modelChooser.visible
    window.ui.modelTree.itemActivated.emit(window.ui.modelTree.currentItem(), 0)
    assert not window.ui.modelChooser.visible and window.models.card.title == walked


def test_the_bundled_model_states_what_was_measured(window):
    page = window.ui.modelDetails.plainText
    assert "Dice 0.885 by cross-validation on 200 cases (Anterior" in page and "CC-BY-SA" in page
    buttons = (window.ui.downloadButton, window.ui.useFileButton, window.ui.deleteButton)
    assert not any(button.enabled for button in buttons), "nothing to fetch, nothing to delete"


def test_a_side_is_asked_for_where_there_are_two(window):
    assert window.ui.sideBox.visible, "a hippocampus is left or right"
    for model in (SLIM, LUNG, "abdomen-ct-unetrpp", "brain-tumor-mr-unetrpp"):
        window.logic.getParameterNode().modelId = model
        assert not window.ui.sideBox.visible, model


def test_a_model_whose_weights_come_by_hand_reports_it(window):
    window.logic.getParameterNode().modelId = LUNG
    assert "downloaded manually" in window.ui.applyButton.toolTip
    assert window.ui.useFileButton.enabled and not window.ui.downloadButton.enabled


def test_weights_that_were_saved_where_the_message_names_are_seen(window, models_folder):
    window.logic.getParameterNode().modelId = LUNG
    file = models_folder / LUNG / window.models.card.weights.file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    window.refresh()
    assert "manually" not in window.ui.applyButton.toolTip
    assert window.ui.modelFacts.item(2).text().lower().endswith("weights: downloaded *")
    assert window.ui.deleteButton.enabled and not window.ui.useFileButton.enabled


def test_their_license_is_asked_for_at_apply(window, models_folder, dialogs):
    """Where it forbids commercial use: no download has shown it."""
    window.logic.getParameterNode().modelId = HEART
    weights = window.models.card.weights
    (models_folder / HEART).mkdir(parents=True)
    with (models_folder / HEART / weights.file).open("wb") as stream:
        stream.truncate(weights.size)
    window.refresh()
    dialogs.answer("No", "Yes")
    assert not window.models.agreed()
    assert "CC BY-NC-SA 4.0" in dialogs.take().text
    assert window.models.agreed()
    dialogs.take()


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture
def add_card(tmp_path, monkeypatch):
    """Gives a card a folder among the user's models, without weights."""
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "users models"))

    def add(card):
        folder = tmp_path / "users models" / card.id
        folder.mkdir(parents=True, exist_ok=True)
        write_card(card, folder / CARD_NAME)

    return add


@pytest.fixture
def downloadable(make_model, server, add_card):
    """A model of the user's whose weights are on a local server."""
    made = make_model()
    weights = (made / "weights.pt").read_bytes()
    server.answers["/weights.pt"] = Answer(weights)
    card = replace(
        read_card(made / CARD_NAME),
        title="Tiny model of a server",
        weights=Weights(
            "weights.pt",
            len(weights),
            hashlib.sha256(weights).hexdigest(),
            sources=(Source("url", url=f"{server.url}/weights.pt"),),
        ),
    )
    add_card(card)
    return card, made / "weights.pt"


def test_a_model_whose_weights_are_lost_takes_them_from_a_file(window, make_model, dialogs, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(make_model(), tmp_path / "users models" / "tiny-1"))
    file = (folder / "weights.pt").rename(tmp_path / "kept.pt")
    monkeypatch.setenv("LIGHTSEG_MODELS", str(folder.parent))
    window.refresh()
    click(window, "Tiny")
    assert window.ui.modelTree.currentItem().text(1) == "missing"
    assert "press Use a File" in window.ui.applyButton.toolTip

    dialogs.choose_path(file)
    window.ui.useFileButton.click()
    wait_until(lambda: window.ui.modelTree.currentItem().text(1) == "downloaded")
    assert "Use a File" not in window.ui.applyButton.toolTip


def test_download_use_a_file_and_delete(window, downloadable, dialogs, screenshot):
    _card, file = downloadable
    window.refresh()
    click(window, "Tiny model of a server")
    assert window.ui.modelTree.currentItem().text(1).endswith("MB")

    dialogs.answer("Cancel", "Ok")
    window.ui.downloadButton.click()
    assert "License:" in dialogs.take().text
    assert window.ui.downloadButton.enabled, "the user did not agree, nothing has happened"
    window.ui.downloadButton.click()
    dialogs.take()
    wait_until(lambda: window.ui.modelTree.currentItem().text(1) == "downloaded")
    assert not window.ui.downloadButton.enabled
    assert window.ui.storedTable.rowCount == 1
    assert float(window.ui.storedTable.item(0, 1).text()) == pytest.approx(file.stat().st_size / 1e6, abs=0.1)

    dialogs.answer("No", "Yes")
    window.ui.deleteButton.click()
    assert "MB" in dialogs.take().text
    window.ui.deleteButton.click()
    dialogs.take()
    assert window.ui.modelTree.currentItem().text(1).endswith("MB") and window.ui.storedTable.rowCount == 0

    dialogs.choose_path(file)
    window.ui.useFileButton.click()
    wait_until(lambda: window.ui.modelTree.currentItem().text(1) == "downloaded")


def test_a_model_of_several_files_takes_the_folder_with_them(window, downloadable, add_card, tmp_path, monkeypatch):
    files = [tmp_path / "by hand" / name for name in ("model.json", "model.bin")]
    files[0].parent.mkdir()
    for file in files:
        file.write_bytes(file.name.encode())
    add_card(replace(downloadable[0], weights=in_parts(files, "tiny.zip")))
    window.refresh()
    click(window, "Tiny model of a server")
    captions = []

    def choose_folder(_parent, caption):
        captions.append(caption)
        return str(tmp_path / "by hand")

    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", choose_folder)
    window.ui.useFileButton.click()
    wait_until(lambda: window.ui.modelTree.currentItem().text(1) == "downloaded")
    assert captions == ["Folder with model.json, model.bin"]


def test_a_file_that_its_authors_have_replaced_is_used_after_delete(
    window, downloadable, add_card, server, dialogs, models_folder
):
    """They state no hash, so their first file counts until the user deletes it, now or once without its record."""
    card, _file = downloadable
    add_card(replace(card, weights=replace(card.weights, size=None, sha256=None)))
    window.refresh()
    click(window, "Tiny model of a server")

    def download():
        dialogs.answer("Ok")
        window.ui.downloadButton.click()
        dialogs.take()
        wait_until(lambda: window.ui.modelTree.currentItem().text(1) == "downloaded" or dialogs.shown)

    def delete():
        dialogs.answer("Yes")
        window.ui.deleteButton.click()
        return dialogs.take().text

    download()
    assert "takes another file if its authors have replaced theirs" in delete()
    assert not (models_folder / card.id / "record.json").exists()
    download()
    WeightStore().remove(card.id)  # as the command does, which remembers the file
    window.refresh()
    server.answers["/weights.pt"] = Answer(server.answers["/weights.pt"].content + b"a newer release")
    download()
    assert "press Delete in Slicer" in dialogs.take().text
    assert "no file" in delete()
    assert not window.ui.deleteButton.enabled
    download()
    assert window.ui.modelTree.currentItem().text(1) == "downloaded"


def test_a_file_of_another_model_is_refused_with_the_reason(window, downloadable, dialogs, tmp_path):
    window.refresh()
    click(window, "Tiny model of a server")
    wrong = tmp_path / "wrong.pt"
    wrong.write_bytes(b"something else")
    dialogs.choose_path(wrong)
    window.ui.useFileButton.click()
    wait_until(lambda: dialogs.shown)
    assert "wrong.pt" in dialogs.take().text
    assert window.ui.modelTree.currentItem().text(1).endswith("MB")


def test_import_open_and_delete_a_model_of_ones_own(window, make_model, dialogs, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "users models"))
    folder = Path(shutil.copytree(make_model(), tmp_path / "given"))
    window.ui.advancedSection.collapsed = False
    dialogs.choose_path(folder)
    window.ui.importFolderButton.click()
    wait_until(lambda: "Tiny" in shown(window))
    assert window.models.card.title == "Tiny", "the new model is the chosen one"
    assert window.ui.storedTable.rowCount == 1
    window.ui.storedTable.setCurrentCell(0, 0)
    dialogs.answer("Yes")
    window.ui.deleteStoredButton.click()
    dialogs.take()
    assert "Tiny" not in shown(window) and window.ui.storedTable.rowCount == 0
    kinds = []
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *given: kinds.append(given[-1]) or "")
    window.ui.importFileButton.click()
    assert kinds == ["Models (*.zip *.tar.gz *.tgz *.pth *.pt model.json plans.json)"]


def test_open_folder_shows_where_the_weights_are(window, dialogs, models_folder, tmp_path, monkeypatch):
    own = tmp_path / "own"
    monkeypatch.setattr("LightSegLib.slicer_app.panel.storage.user_folder", lambda: own)
    window.ui.openFolderButton.click()
    assert models_folder.is_dir() and not own.exists()
    assert dialogs.opened == [models_folder.as_uri()]
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(own / "weights"))
    window.ui.openFolderButton.click()
    assert dialogs.opened[1:] == [own.as_uri()], "which has the imported models, too"
    own.rmdir()
    own.touch()
    window.ui.openFolderButton.click()
    assert "The folder could not be opened." in dialogs.take().text
