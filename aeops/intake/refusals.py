"""What cannot be taken in, and what to convert it to, with the command."""

from pathlib import Path

_CONVERSIONS = {
    (".h5", ".hdf5", ".hdf", ".he5"): (
        "HDF5",
        """python -c "import h5py, numpy; numpy.save('{stem}.npy', h5py.File('{name}')['DATASET'][:])\"""",
        "its arrays as .npy (pip install h5py), or its tables as Parquet: pandas.read_hdf(...).to_parquet(...)",
    ),
    (".mat",): (
        "MATLAB",
        """python -c "import scipy.io, numpy; numpy.savez('{stem}.npz', X=scipy.io.loadmat('{name}')['X'])\"""",
        "the arrays as .npz; of version 7.3, which is HDF5, by h5py",
    ),
    (".avro",): (
        "Avro",
        """python -c "import fastavro as f, pandas; pandas.DataFrame(f.reader(open('{name}', 'rb'))).to_csv('{stem}.csv')\"""",
        "CSV (pip install fastavro)",
    ),
    (".xls",): ("old Excel", "libreoffice --headless --convert-to xlsx {name}", ".xlsx"),
    (".ods",): ("OpenDocument", "libreoffice --headless --convert-to xlsx {name}", ".xlsx"),
    (".orc",): (
        "ORC",
        """python -c "import pyarrow.orc as o, pyarrow.parquet as p; p.write_table(o.read_table('{name}'), '{stem}.parquet')\"""",
        "Parquet",
    ),
    (".pkl", ".pickle", ".joblib", ".pt", ".pth"): (
        "pickle",
        """python -c "import pandas; pandas.read_pickle('{name}').to_parquet('{stem}.parquet')\"""",
        "Parquet or .npy. A pickle runs code as it is opened: only where you know who wrote it",
    ),
    (".dta", ".sas7bdat", ".xpt"): (
        "a statistics package",
        """python -c "import pandas; pandas.read_{kind}('{name}').to_parquet('{stem}.parquet')\"""",
        "Parquet",
    ),
    (".sav", ".zsav"): (
        "SPSS",
        """python -c "import pandas; pandas.read_spss('{name}').to_parquet('{stem}.parquet')\"""",
        "Parquet (pip install pyreadstat)",
    ),
    (".rds", ".rdata", ".rda"): ("R", """Rscript -e 'write.csv(readRDS("{name}"), "{stem}.csv", row.names = FALSE)'""", "CSV"),
    (".zip",): ("an archive", "unzip {name} -d {stem}", "the folder of its files"),
    (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"): ("an archive", "mkdir {stem} && tar -xf {name} -C {stem}", "the folder"),
    (".7z", ".rar"): ("an archive", "7z x {name} -o{stem}", "the folder of its files"),
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif"): (
        "a video or animation",
        "mkdir {stem} && ffmpeg -i {name} {stem}/%05d.png",
        "a folder of its frames",
    ),
    (".wav", ".mp3", ".flac", ".ogg"): (
        "sound",
        """python -c "import soundfile, numpy; numpy.save('{stem}.npy', soundfile.read('{name}')[0])\"""",
        "windows of its samples as .npy (pip install soundfile)",
    ),
    (".pdf", ".docx", ".doc", ".odt", ".html", ".htm"): ("documents", "pandoc {name} -t plain -o {stem}.txt", "plain texts"),
    (".dcm", ".dicom", ".nii", ".nii.gz", ".svs", ".heic", ".heif", ".raw", ".dng", ".cr2", ".nef", ".jp2", ".exr", ".svg"): (
        "an image format that is not read here",
        "magick {name} {stem}.png",
        "PNG or TIFF",
    ),
    (".xml",): ("XML", """python -c "import pandas; pandas.read_xml('{name}').to_parquet('{stem}.parquet')\"""", "Parquet"),
    (".json",): (
        "JSON",
        """python -c "import pandas; pandas.read_json('{name}').to_json('{stem}.jsonl', orient='records', lines=True)\"""",
        "JSONL, an object a line",
    ),
}


def refusal_of(path: Path) -> str | None:
    """Return why a file cannot be taken in, what to convert it to and the command; None where its name says nothing.

    >>> refusal_of(Path("a/old.xls")).partition(" such as by ")[0]
    'old.xls is not read here (old Excel): convert it to .xlsx,'
    >>> refusal_of(Path("a/table.csv")) is None
    True
    """
    name = path.name.lower()
    for suffixes, (what, command, target) in _CONVERSIONS.items():
        for suffix in suffixes:
            if name.endswith(suffix):
                stem = path.name[: -len(suffix)] or "data"
                typed = command.replace("{name}", path.name).replace("{stem}", stem)
                typed = typed.replace("{kind}", "stata" if suffix == ".dta" else "sas")
                return f"{path.name} is not read here ({what}): convert it to {target}, such as by `{typed}`"
    return None
