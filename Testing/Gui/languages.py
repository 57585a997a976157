"""The window's texts in other languages, for tests of its layout: labels on one line that need room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PySide6 import QtCore

GERMAN = {
    "Advanced": "Weitere Einstellungen",
    "All frames:": "Alle Zeitpunkte:",
    "Apply": "Anwenden",
    "Around the Slices": "Um die Schichten herum",
    "Cancel": "Abbrechen",
    "Cancel Download": "Herunterladen abbrechen",
    "Change": "Ändern",
    "Choose a volume": "Volumen auswählen",
    "Close": "Schließen",
    "Confidence volume:": "Konfidenzvolumen:",
    "Copy Description": "Beschreibung kopieren",
    "Copy Details": "Einzelheiten kopieren",
    "Copy Table": "Tabelle kopieren",
    "Delete": "Löschen",
    "Device:": "Recheneinheit:",
    "Download": "Herunterladen",
    "Expected Dice": "Erwarteter Dice",
    "Fit to Volume": "An Volumen anpassen",
    "Import File...": "Datei importieren...",
    "Import Folder...": "Ordner importieren...",
    "Inputs": "Eingaben",
    "Largest piece only:": "Nur größtes Stück:",
    "Slices with low confidence (click to go there):": "Schichten mit geringer Konfidenz (zum Anzeigen anklicken):",
    "Less": "Weniger",
    "Load Sample Data": "Beispieldaten laden",
    "Mirror images:": "Spiegelbilder:",
    "Model": "Modell",
    "Models on this computer:": "Modelle auf diesem Rechner:",
    "More": "Mehr",
    "New segmentation": "Neue Segmentierung",
    "NVIDIA graphics card": "NVIDIA-Grafikkarte",
    "Open Folder": "Ordner öffnen",
    "OpenVINO:": "OpenVINO:",
    "Install OpenVINO...": "OpenVINO installieren...",
    "Output": "Ausgabe",
    "Precision:": "Rechengenauigkeit:",
    "Quality:": "Qualität:",
    "Region:": "Region:",
    "Result": "Ergebnis",
    "Search structure...": "Struktur suchen...",
    "Search title, modality, structure...": "Titel, Modalität, Struktur suchen...",
    "Segment": "Segment",
    "Segment Editor": "Segmentierungseditor",
    "Segmentation:": "Segmentierung:",
    "Show": "Anzeigen",
    "Side:": "Seite:",
    "Size, MB": "Größe, MB",
    "Structures:": "Strukturen:",
    "Tick All": "Alle ankreuzen",
    "Tick None": "Keine ankreuzen",
    "Use a File...": "Datei verwenden...",
    "Volume, ml": "Volumen, ml",
    "Volume:": "Volumen:",
    "Whole volume": "Gesamtes Volumen",
    "automatic": "automatisch",
    "Found automatically": "Automatisch gefunden",
    "all {count}": "alle {count}",
    "as found": "wie gefunden",
    "by the region": "nach der Region",
    "by the region: left": "nach der Region: links",
    "by the region: right": "nach der Region: rechts",
    "of all segments together": "von allen Segmenten zusammen",
    "and {count} more": "und {count} weitere",
    "PyTorch is not installed yet: Apply asks before it installs it.": (
        "PyTorch fehlt noch: Anwenden fragt vor der Installation."
    ),
    "Segmented in {seconds:.1f} s on {device}.": "In {seconds:.1f} s auf {device} segmentiert.",
    "This model was made for a region of {size} mm, not for a whole volume.": (
        "Dieses Modell ist für eine Region von {size} mm gemacht, nicht für ein gesamtes Volumen."
    ),
}
CHINESE = {
    "Advanced": "高级",
    "Apply": "应用",
    "Around the Slices": "围绕切片交点",
    "Cancel": "取消",
    "Cancel Download": "取消下载",
    "Change": "更改",
    "Choose a volume": "选择体数据",
    "Close": "关闭",
    "All frames:": "所有时间帧:",
    "Confidence volume:": "置信度体数据:",
    "Copy Description": "复制描述",
    "Copy Details": "复制详情",
    "Copy Table": "复制表格",
    "Delete": "删除",
    "Device:": "设备:",
    "Download": "下载",
    "Expected Dice": "预期 Dice",
    "Fit to Volume": "适应体数据",
    "Import File...": "导入文件...",
    "Import Folder...": "导入文件夹...",
    "Inputs": "输入",
    "Largest piece only:": "仅最大部分:",
    "Slices with low confidence (click to go there):": "最不确定的切片(点击跳转):",
    "Less": "收起",
    "Load Sample Data": "加载示例数据",
    "Mirror images:": "镜像图像:",
    "Model": "模型",
    "Models on this computer:": "此计算机上的模型:",
    "More": "更多",
    "New segmentation": "新建分割",
    "NVIDIA graphics card": "NVIDIA显卡",
    "Open Folder": "打开文件夹",
    "OpenVINO:": "OpenVINO:",
    "Install OpenVINO...": "安装OpenVINO...",
    "Output": "输出",
    "Precision:": "精度:",
    "Quality:": "质量:",
    "Region:": "区域:",
    "Result": "结果",
    "Search structure...": "搜索结构...",
    "Search title, modality, structure...": "搜索标题、模态、结构...",
    "Segment": "分段",
    "Segment Editor": "分割编辑器",
    "Segmentation:": "分割:",
    "Show": "显示",
    "Side:": "侧别:",
    "Size, MB": "大小, MB",
    "Structures:": "结构:",
    "Tick All": "全部勾选",
    "Tick None": "全部取消",
    "Use a File...": "使用文件...",
    "Volume, ml": "体积, ml",
    "Volume:": "体数据:",
    "Whole volume": "整个体数据",
    "automatic": "自动",
    "Found automatically": "自动查找",
    "all {count}": "全部{count}",
    "as found": "按查找结果",
    "by the region": "根据区域",
    "by the region: left": "根据区域: 左",
    "by the region: right": "根据区域: 右",
    "of all segments together": "所有分段合并后",
    "and {count} more": "另有{count}个",
    "Segmented in {seconds:.1f} s on {device}.": "在{device}上用时{seconds:.1f}秒完成分割。",
    "This model was made for a region of {size} mm, not for a whole volume.": (
        "该模型适用于{size} mm的区域,而不适用于整个体数据。"
    ),
}
LANGUAGES: dict[str, dict[str, str]] = {"en": {}, "de": GERMAN, "zh": CHINESE}


class Words(QtCore.QTranslator):
    """A translator that knows the words above, whatever the context."""

    def __init__(self, words: dict[str, str]) -> None:
        super().__init__()
        self._words = words

    def translate(self, context: str, text: str, disambiguation: Any = None, n: int = -1) -> str:
        return self._words.get(text, text)

    def isEmpty(self) -> bool:
        return False


@contextmanager
def spoken(language: str) -> Iterator[None]:
    """What is opened in here has its words in this language."""
    words = Words(LANGUAGES[language])
    QtCore.QCoreApplication.installTranslator(words)
    try:
        yield
    finally:
        QtCore.QCoreApplication.removeTranslator(words)
