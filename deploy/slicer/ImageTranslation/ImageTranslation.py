"""A module of 3D Slicer: the loaded volume to a MONAI Label server or the command line, the answer as a volume.

RESEARCH USE ONLY, not for diagnosis. See docs/slicer.md; the panel was not run in Slicer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import ctk
import qt
import slicer
from ImageTranslationLib.translation import (
    NOTICE,
    Translated,
    TranslationError,
    by_command_line,
    by_server,
    models,
    parameters_of,
)
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)


class ImageTranslation(ScriptedLoadableModule):
    """The module, as Slicer lists it."""

    def __init__(self, parent: qt.QObject) -> None:
        super().__init__(parent)
        parent.title = "Image translation"
        parent.categories = ["Filtering"]
        parent.contributors = ["The monai-translation-bundles authors"]
        parent.helpText = f"Translates a volume by a MONAI bundle. {NOTICE}."


class ImageTranslationWidget(ScriptedLoadableModuleWidget):
    """The panel: what to translate, by whom, with which parameters."""

    def setup(self) -> None:
        """Build the panel."""
        super().setup()
        self.logic = ImageTranslationLogic()
        form = qt.QFormLayout()
        self.layout.addLayout(form)
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        self.address, self.python = qt.QLineEdit("http://127.0.0.1:8000"), qt.QLineEdit()
        self.python.placeholderText = "empty: by the server; else a Python that has this project"
        self.bundle, self.parameters = qt.QComboBox(), qt.QLineEdit('{"target": "B70f"}')
        self.bundle.editable = True
        for label, field in (
            ("Volume", self.volume),
            ("Server", self.address),
            ("Python", self.python),
            ("Bundle", self.bundle),
            ("Parameters", self.parameters),
        ):
            form.addRow(label, field)
        for text, action in (("List the server's bundles", self.on_list), ("Translate", self.on_translate)):
            button = ctk.ctkPushButton()
            button.text = text
            button.connect("clicked()", action)
            self.layout.addWidget(button)
        self.said = qt.QPlainTextEdit(NOTICE)
        self.said.readOnly = True
        self.layout.addWidget(self.said)
        self.layout.addStretch(1)

    def on_list(self) -> None:
        """Fill the list of bundles from the server."""
        with slicer.util.tryWithErrorDisplay("The server was not asked."):
            found = models(self.address.text)
            self.bundle.clear()
            self.bundle.addItems(sorted(found))
            self.said.setPlainText("\n".join(f"{name}: {config}" for name, config in sorted(found.items())))

    def on_translate(self) -> None:
        """Translate the volume, load the answer, and show what was doubted."""
        with slicer.util.tryWithErrorDisplay("The volume was not translated.", waitCursor=True):
            node = self.volume.currentNode()
            if node is None:
                raise TranslationError("Choose a volume.")
            made = self.logic.translate(
                node, self.address.text, self.python.text.strip(), self.bundle.currentText, self.parameters.text
            )
            self.said.setPlainText("\n".join([f"{made.name}: {NOTICE}", *made.warnings]))


class ImageTranslationLogic(ScriptedLoadableModuleLogic):
    """What the panel does."""

    def translate(self, node: object, address: str, python: str, bundle: str, parameters: str) -> Translated:
        """Translate a node by the server, or by the command line of a Python, and load the answer as a volume.

        Args:
            node: The volume.
            address: Address of the server.
            python: Python that has this project; empty: the server translates.
            bundle: Name of the bundle.
            parameters: Parameters, in JSON.

        Raises:
            TranslationError: If the image or a parameter is refused.
        """
        given = parameters_of(parameters)
        with tempfile.TemporaryDirectory() as scratch:
            volume, folder = Path(scratch, "scan.nii.gz"), Path(scratch, "out")
            folder.mkdir()
            slicer.util.saveNode(node, str(volume))
            if python:
                made = by_command_line(python, bundle, volume, given, folder)
            else:
                made = by_server(address, bundle, volume, given, folder)
            name = f"{node.GetName()} {made.name.partition(' ')[2]}"
            loaded = slicer.util.loadVolume(str(made.path), {"name": name, "labelmap": False, "singleFile": True})
        loaded.SetDescription("\n".join([NOTICE, *made.warnings]))
        return made._replace(name=name)
