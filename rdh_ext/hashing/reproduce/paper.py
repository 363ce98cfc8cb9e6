"""Tables 1 and 2 of "Rescuing Deep Hashing from Dead Bits Problem" (IJCAI 2021), as printed.

mAP, mean of five runs; on CIFAR-10 over the whole gallery, on MS-COCO and NUS-WIDE of the first 5,000. For HashNet with
32 bits on CIFAR-10 Table 1 has 0.7568 and Table 2 has 0.7573: both are kept.
"""

from __future__ import annotations

BITS = (24, 32, 48, 64)
METHODS = ("dpsh", "dhn", "hashnet", "dagh", "dsdh")
"""In the order of Table 1."""
DATASETS = {"cifar10": "CIFAR-10", "coco": "MS-COCO", "nuswide": "NUS-WIDE"}
"""Key below -> the paper's name."""
SEEDS = 5
TAU = 0.99
ETA = {"cifar10": 1.0, "coco": 0.1, "nuswide": 0.1}

_OTHER_NAMES = {"mscoco": "coco", "nuswide21": "nuswide"}
_Row = tuple[float, float, float, float]

TABLE1: dict[str, dict[tuple[str, bool], _Row]] = {
    "cifar10": {
        ("dpsh", False): (0.7465, 0.7467, 0.7418, 0.7466),
        ("dpsh", True): (0.7621, 0.7719, 0.7748, 0.7731),
        ("dhn", False): (0.7426, 0.7461, 0.7449, 0.7387),
        ("dhn", True): (0.7653, 0.7704, 0.7712, 0.7651),
        ("hashnet", False): (0.7477, 0.7568, 0.7630, 0.7635),
        ("hashnet", True): (0.7737, 0.7804, 0.7859, 0.7866),
        ("dagh", False): (0.7310, 0.7218, 0.7248, 0.7269),
        ("dagh", True): (0.7561, 0.7579, 0.7622, 0.7559),
        ("dsdh", False): (0.7584, 0.7611, 0.7740, 0.7703),
        ("dsdh", True): (0.7767, 0.7886, 0.7845, 0.7887),
    },
    "coco": {
        ("dpsh", False): (0.6770, 0.6946, 0.7137, 0.7109),
        ("dpsh", True): (0.6986, 0.7097, 0.7189, 0.7231),
        ("dhn", False): (0.6894, 0.6950, 0.7081, 0.7132),
        ("dhn", True): (0.7043, 0.7168, 0.7294, 0.7354),
        ("hashnet", False): (0.6877, 0.6985, 0.7100, 0.7172),
        ("hashnet", True): (0.7034, 0.7167, 0.7269, 0.7302),
        ("dagh", False): (0.6635, 0.6720, 0.6854, 0.6899),
        ("dagh", True): (0.6897, 0.7051, 0.7084, 0.7131),
        ("dsdh", False): (0.7199, 0.7474, 0.7728, 0.7805),
        ("dsdh", True): (0.7285, 0.7539, 0.7764, 0.7862),
    },
    "nuswide": {
        ("dpsh", False): (0.8075, 0.8137, 0.8242, 0.8265),
        ("dpsh", True): (0.8250, 0.8332, 0.8387, 0.8414),
        ("dhn", False): (0.8198, 0.8278, 0.8326, 0.8351),
        ("dhn", True): (0.8202, 0.8307, 0.8344, 0.8370),
        ("hashnet", False): (0.8176, 0.8209, 0.8303, 0.8332),
        ("hashnet", True): (0.8256, 0.8311, 0.8404, 0.8455),
        ("dagh", False): (0.8185, 0.8254, 0.8313, 0.8354),
        ("dagh", True): (0.8233, 0.8296, 0.8374, 0.8392),
        ("dsdh", False): (0.8152, 0.8206, 0.8279, 0.8326),
        ("dsdh", True): (0.8185, 0.8297, 0.8416, 0.8461),
    },
}
"""Data set -> (method, with RDH) -> mAP for 24, 32, 48 and 64 bits."""

TABLE2: dict[str, _Row] = {
    "rdh": (0.7737, 0.7804, 0.7859, 0.7866),
    "rdh-no-ga": (0.7612, 0.7649, 0.7686, 0.7601),
    "rdh-no-eaql": (0.7691, 0.7679, 0.7793, 0.7696),
    "plain": (0.7477, 0.7573, 0.7630, 0.7635),
}
"""Of HashNet on CIFAR-10: variant, as in ``grid.VARIANTS``, -> mAP for 24, 32, 48 and 64 bits."""


def dataset_of(name: str) -> str | None:
    """The key of the paper's data set of that name, in any usual spelling; None if it is none of them.

    Example:
        >>> from rdh_ext.hashing.reproduce import paper
        >>> paper.dataset_of("NUS-WIDE"), paper.dataset_of("digits")
        ('nuswide', None)
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    plain = _OTHER_NAMES.get(plain, plain)
    return plain if plain in DATASETS else None


def table1_value(dataset: str | None, method: str, rdh: bool, bits: int) -> float | None:
    """A number of Table 1; None where the paper has none."""
    if dataset is None or bits not in BITS:
        return None
    row = TABLE1[dataset].get((method, rdh))
    return None if row is None else row[BITS.index(bits)]


def table2_value(dataset: str | None, method: str, variant: str, bits: int) -> float | None:
    """A number of Table 2; None where the paper has none."""
    if dataset != "cifar10" or method != "hashnet" or bits not in BITS:
        return None
    return TABLE2[variant][BITS.index(bits)]
