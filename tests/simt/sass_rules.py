"""Which kernels must contain which instructions, and must not contain which: the promises that source cannot show.

A rule is about every instance of a source whose name matches ``kernel`` (``python tests/simt/gates.py --show forward``
lists names and instructions). Its regular expressions are matched against the beginning of an instruction, such as
``LDG.E.128.CONSTANT R4, [R2.64]``: some instruction must match each of ``must``, none may match one of ``never``.
Local memory (LDL, STL) is forbidden everywhere and needs no rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from cubins import ARCHS


@dataclass(frozen=True)
class Rule:
    """``why`` is what a person reads when it is broken; ``source`` is relative to the top of the repository."""

    why: str
    source: str
    kernel: str
    must: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    archs: tuple[int, ...] = ARCHS


SM80_ON = (80, 90, 120)
PTX = "tests/simt/test_ptx.cpp"
AMPLIFIER = "csrc/kernels/cuda/gradient_amplifier_kernel.cu"
PAIRWISE = "csrc/kernels/cuda/pairwise_loss_kernel.cu"
KERNELS = "csrc/kernels/cuda"
HISTOGRAM, TOPK, RANKS = (
    f"{KERNELS}/{stem}_kernel.cu" for stem in ("hamming_histogram", "hamming_topk", "stable_ranks")
)
SCANS = {HISTOGRAM: "histogram_kernel", TOPK: "(count|place)_kernel", RANKS: "(count|rank)_kernel"}
NARROW = r"(float|__half|__nv_bfloat16)"

RULES = (
    Rule(
        "packed instances move 16 bytes at a time",
        AMPLIFIER,
        r"(forward|backward)_kernel<.*, (?!1,)\d+, \d+>",
        must=(r"LDG\.E\.128\b", r"STG\.E\.128\b"),
    ),
    Rule(
        "elements narrower than double are computed in float",
        AMPLIFIER,
        rf"\w+<{NARROW}, .*",
        never=(r"D(MUL|FMA|SETP|MNMX)\b", r"MUFU\.\w*64"),
    ),
    Rule(
        "elements narrower than double are computed in float, and only the counts are sums in double",
        AMPLIFIER,
        rf"(forward_kernel<{NARROW}|backward_kernel<{NARROW}, \w+, false), .*",
        never=(r"DADD\b",),
    ),
    Rule(
        "counting is a warp reduction and atomics without a return value",
        AMPLIFIER,
        r"backward_kernel<\w+, \w+, true, .*",
        must=(r"SHFL\.DOWN\b", r"REDG?\.E\.ADD\.F64\b"),
        never=(r"ATOM",),
    ),
    Rule(
        "who does not count pays nothing for it",
        AMPLIFIER,
        r"(forward_kernel<.*|backward_kernel<\w+, \w+, false, .*)",
        never=(r"SHFL", r"RED", r"ATOM", r"I2F\.F64"),
    ),
    Rule(
        "tiles of h, v and G come from shared memory 16 bytes at a time, and products are fused",
        PAIRWISE,
        r"exact_kernel<float, .*",
        must=(r"LDS(\.U)?\.128\b", r"LDG\.E\.128\b", r"STS\.128\b", r"FFMA\b", r"MUFU\.EX2\b", r"MUFU\.RCP\b"),
        never=(r"D(MUL|FMA|SETP|MNMX)\b",),
    ),
    Rule(
        "double is double from end to end",
        PAIRWISE,
        r"exact_kernel<double, .*",
        must=(r"LDS(\.U)?\.128\b", r"LDG\.E\.128\b", r"STS\.128\b", r"DFMA\b"),
    ),
    Rule(
        "tiles go to shared memory past the registers, and pairs stay in float",
        PAIRWISE,
        r"mma_kernel<.*",
        must=(r"LDGSTS\.E\.BYPASS\S*\.128\b", r"LDSM\.16\.M88\.4\b", r"MUFU\.EX2\b", r"MUFU\.RCP\b"),
        never=(r"D(MUL|FMA|SETP|MNMX)\b",),
        archs=SM80_ON,
    ),
    Rule(
        "tf32 products of pairs",
        PAIRWISE,
        r"mma_kernel<unsigned int, .*",
        must=(r"HMMA\.1688\.F32\.TF32\b",),
        archs=SM80_ON,
    ),
    Rule(
        "bf16 products of pairs",
        PAIRWISE,
        r"mma_kernel<__nv_bfloat16, .*",
        must=(r"HMMA\.16816\.F32\.BF16\b", r"LDSM\.16\.MT88\.4\b", r"F2FP\.BF16"),
        archs=SM80_ON,
    ),
    Rule(
        "S against signs is counted bits",
        PAIRWISE,
        r"agreement_kernel<.*",
        must=(r"POPC\b", r"VOTE"),
    ),
    Rule(
        "integers are added without waiting for what was there",
        PAIRWISE,
        r"(signs|agreement|count)_kernel<.*",
        must=(r"REDG?\.E\.ADD\b",),
        never=(r"ATOMG?\.E\.ADD",),
    ),
    Rule(
        "eight signs are whole loads",
        f"{KERNELS}/pack_codes_kernel.cu",
        r"pack_kernel<.*, true, .*",
        must=(r"LDG\.E\.128\b",),
    ),
    Rule(
        "four signs to a store", f"{KERNELS}/unpack_codes_kernel.cu", r"unpack_kernel<4, .*", must=(r"STG\.E\.128\b",)
    ),
    Rule(
        "bits are transposed in exchanges of lanes",
        f"{KERNELS}/bit_planes_kernel.cu",
        r"planes_kernel<.*",
        must=(r"SHFL\.BFLY\b", r"STG\.E\.64\b"),
    ),
    Rule(
        "codes are compared in registers, and distances are 16 bits",
        f"{KERNELS}/hamming_distance_kernel.cu",
        r"(wide_)?distance_kernel<.*",
        must=(r"POPC\b", r"STG\.E\.U16\b"),
    ),
    *(
        Rule(
            "warps wait for nobody, and lanes count for themselves: no barriers, and no atomics with an answer",
            source,
            rf"{kernel}<.*",
            must=(r"POPC\b",),
            never=(r"BAR\.", r"ATOM", r"MATCH", r"SHFL"),
        )
        for source, kernel in SCANS.items()
    ),
    *(
        Rule(
            "an item and its class come from shared memory at once",
            source,
            rf"{kernel}<1, [124], .*",
            must=(r"LDS(\.U)?\.128\b",),
        )
        for source, kernel in SCANS.items()
        if source != TOPK
    ),
    Rule(
        "counts are added to the result without waiting for what was there",
        HISTOGRAM,
        r"histogram_kernel<.*",
        must=(r"REDG?\.E\.ADD\.64\b",),
    ),
    *(
        Rule("places are found without atomics", source, rf"{SCANS[source]}<.*", never=(r"RED",))
        for source in (TOPK, RANKS)
    ),
    Rule(
        "terms are divided in double, and added as integers",
        RANKS,
        r"rank_kernel<.*",
        must=(r"MUFU\.RCP64H\b",),
        never=(r"DADD\b",),
    ),
    Rule("approximations", PTX, r"approximate_kernel<.*", must=(r"MUFU\.EX2\b", r"MUFU\.RCP\b")),
    Rule("bf16 products", PTX, r"product_kernel<\(Kind\)0, .*", must=(r"HMMA\.16816\.F32\.BF16\b",), archs=SM80_ON),
    Rule("tf32 products", PTX, r"product_kernel<\(Kind\)1, .*", must=(r"HMMA\.1688\.F32\.TF32\b",), archs=SM80_ON),
    Rule("s8 products", PTX, r"product_kernel<\(Kind\)2, .*", must=(r"IMMA\.16832\.S8\.S8\b",), archs=SM80_ON),
    Rule(
        "products of single bits",
        PTX,
        r"product_kernel<\(Kind\)3, .*",
        must=(r"BMMA\.168256\.AND\.POPC\b",),
        archs=(80, 90),
    ),
    Rule(
        "products of single bits: gone from the hardware, nvcc makes eight of bytes",
        PTX,
        r"product_kernel<\(Kind\)3, .*",
        must=(r"IMMA\.16832\.U8\.U8\b",),
        never=(r"BMMA\b",),
        archs=(120,),
    ),
    Rule("ldmatrix", PTX, r"ldmatrix_kernel<false, .*", must=(r"LDSM\.16\.M88\.4\b",)),
    Rule("ldmatrix, transposed", PTX, r"ldmatrix_kernel<true, .*", must=(r"LDSM\.16\.MT88\.4\b",)),
    Rule(
        "copies into shared memory that no register sees",
        PTX,
        r"copy_kernel<.*",
        must=(r"LDGSTS\.E\b", r"LDGSTS\.E\S*\.ZFILL\b", r"LDGDEPBAR\b", r"DEPBAR\.LE\b"),
        never=(r"LDG\.", r"STS\b"),
        archs=SM80_ON,
    ),
    Rule(
        "copies of 16 bytes go past L1",
        PTX,
        r"copy_kernel<16, .*",
        must=(r"LDGSTS\.E\.BYPASS\.128\b",),
        archs=SM80_ON,
    ),
)
