"""What models take on the disk; adding and deleting some."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from ... import __version__
from ...core.packages import installed_version
from ...core.paths import user_folder, weights_folder
from ...weights.download import write_error
from ...weights.store import WeightStore
from .facts import storedBytes
from .fitting import fitTable, stack
from .models import Models
from .status import Status


class Storage:
    """The table of what downloaded and imported models take, and the buttons below it."""

    def __init__(self, ui: Any, status: Status, models: Models) -> None:
        self._ui = ui
        self._status = status
        self._models = models
        self._stored: list[str] = []
        header = ui.storedTable.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        ui.storedTable.itemSelectionChanged.connect(self._onSelection)
        ui.deleteStoredButton.clicked.connect(self._onDelete)
        ui.openFolderButton.clicked.connect(self._onOpenFolder)
        ui.importFolderButton.clicked.connect(self._onImportFolder)
        ui.importFileButton.clicked.connect(self._onImportFile)

    def refresh(self) -> None:
        """Show what is on the disk now."""
        models = self._models.listed
        imported = [model for model, listed in models.items() if listed.state == "user"]
        downloaded = [entry.model for entry in WeightStore().entries()]
        self._stored = sorted({*imported, *downloaded})
        table = self._ui.storedTable
        table.setRowCount(len(self._stored))
        for number, model in enumerate(self._stored):
            title = models[model].card.title if model in models else model
            table.setItem(number, 0, qt.QTableWidgetItem(title))
            table.setItem(number, 1, qt.QTableWidgetItem(f"{storedBytes(model, models) / 1e6:.1f}"))
        fitTable(table)
        table.setVisible(bool(self._stored))
        self._ui.deleteStoredButton.setVisible(bool(self._stored))
        for row in (self._ui.storedButtons, self._ui.importButtons):
            stack(row)
        self._onSelection()
        openvino = installed_version("openvino") is not None
        about = _("LightSeg {version}, Apache License 2.0. Not a medical device. OpenVINO: {openvino}.")
        self._ui.aboutLabel.setText(
            about.format(version=__version__, openvino=_("installed") if openvino else _("not installed"))
        )

    def _onSelection(self) -> None:
        """Allow deleting while a row is selected."""
        self._ui.deleteStoredButton.setEnabled(self._ui.storedTable.currentRow() in range(len(self._stored)))

    def _onDelete(self) -> None:
        """Delete the selected files."""
        self._models.delete(self._stored[self._ui.storedTable.currentRow()])

    def _onOpenFolder(self) -> None:
        """Open the folder of the weights in the file manager: the user's LightSeg folder where they are in that."""
        with self._status.trying(_("The folder could not be opened.")):
            folder, own = weights_folder(), user_folder()
            if folder.is_relative_to(own):  # which has the imported models, too
                folder = own
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(folder, error) from error
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))

    def _onImportFolder(self) -> None:
        """Import a model from a folder that the user chooses."""
        self._import(qt.QFileDialog.getExistingDirectory(self._ui.storedTable, _("Model folder")))

    def _onImportFile(self) -> None:
        caption, kinds = _("Model file"), _("Models (*.zip *.tar.gz *.tgz *.pth *.pt model.json plans.json)")
        self._import(qt.QFileDialog.getOpenFileName(self._ui.storedTable, caption, "", kinds))

    def _import(self, path: str) -> None:
        """Import a model, unless the user chose none."""
        if path:
            self._models.add(path)
