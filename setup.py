"""The packages: the library's folders, and the module's resources as one more. All else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages("LightSeg", include=["LightSegLib*"]), "LightSegLib.resources"],
    package_dir={"": "LightSeg", "LightSegLib.resources": "LightSeg/Resources"},
    package_data={
        "": ["*.css", "*.csv", "*.js", "*.json", "cards/*.json", "families/*.json"],
        "LightSegLib.resources": ["Models/*"],
    },
)
