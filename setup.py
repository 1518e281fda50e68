"""What pyproject.toml cannot say: packages are found, and the notebooks travel inside an installed package."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["fmiqa_utils*"]), "fmiqa_utils.notebooks"])
