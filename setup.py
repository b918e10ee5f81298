"""What pyproject.toml cannot say: notebooks/ and data/ lie beside the library, and in a wheel inside it."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

LIBRARY = {"bloodcell_lib": ["*.json", "command/site/*"]}
SHIPPED = {
    "bloodcell_lib.notebooks": ("notebooks", ["*.ipynb", "*.md"]),
    "bloodcell_lib.data": ("data", ["provenance.csv", "same_cell.csv"]),
}


class BuildPy(build_py):
    """Takes from those folders the files named above, and no program that lies beside them."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        return [] if package in SHIPPED else super().find_package_modules(package, package_dir)


setup(
    packages=[*find_packages(include=["bloodcell_lib*"]), *SHIPPED],
    package_dir={package: folder for package, (folder, _) in SHIPPED.items()},
    package_data=LIBRARY | {package: files for package, (_, files) in SHIPPED.items()},
    cmdclass={"build_py": BuildPy},
)
