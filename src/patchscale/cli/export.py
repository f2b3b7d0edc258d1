"""Command `patchscale export`: a published model as a folder for the Hugging Face Hub."""

from pathlib import Path

from patchscale.hub import export
from patchscale.study.params import load_params
from patchscale.study.parser import parser


def main(*words: str) -> None:
    """Write the folder and name its files."""
    command = parser(
        "export",
        "Write the published weights of a cell, config.json and a model card into a folder that\n"
        "can be uploaded to the Hugging Face Hub. Nothing is uploaded.",
        "2M-h1 --to exported/2M-h1",
    )
    command.add_argument("cell", metavar="CELL", help="such as 2M-h1")
    command.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")
    options = command.parse_args(words)
    for path in export(load_params(), options.cell, options.to):
        print(f"written: {path}")
