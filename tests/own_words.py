"""Sentence pairs as people have them: small, made of real words by a small grammar, in files.

Each function writes one kind of data into a folder and returns the pairs (source, target).
"""

import csv
import itertools
from pathlib import Path

# Of each language: who, does what, where, when, and how these make a sentence.
GRAMMARS = {
    "en": (
        "The teacher|The doctor|The child|My brother|The farmer|The student|The driver",
        "reads a newspaper|drinks tea|buys bread|writes a letter|eats an apple|sells fruit",
        "at home|at school|at the market|in the city|at the station|in the kitchen|in the park",
        "today|every day|in the morning|in the evening|on Sunday",
        "{0} {1} {2} {3}.",
    ),
    "zh": (
        "老师|医生|孩子|我哥哥|农民|学生|司机",
        "看报纸|喝茶|买面包|写信|吃苹果|卖水果",
        "在家|在学校|在市场|在城里|在车站|在厨房|在公园",
        "今天|每天|早上|晚上|星期天",
        "{0}{3}{2}{1}。",
    ),
    "ar": (
        "المعلم|الطبيب|الطفل|أخي|الفلاح|الطالب|السائق",
        "يقرأ جريدة|يشرب الشاي|يشتري الخبز|يكتب رسالة|يأكل تفاحة|يبيع الفاكهة",
        "في البيت|في المدرسة|في السوق|في المدينة|في المحطة|في المطبخ|في الحديقة",
        "اليوم|كل يوم|في الصباح|في المساء|يوم الأحد",
        "{0} {1} {2} {3}.",
    ),
    "cs": (
        "Učitel|Lékař|Dítě|Můj bratr|Zemědělec|Student|Řidič",
        "čte noviny|pije čaj|kupuje chléb|píše dopis|jí jablko|prodává ovoce",
        "doma|ve škole|na trhu|ve městě|na nádraží|v kuchyni|v parku",
        "dnes|každý den|ráno|večer|v neděli",
        "{0} {1} {2} {3}.",
    ),
    "ja": (
        "先生|医者|子供|私の兄|農家の人|学生|運転手",
        "新聞を読みます|お茶を飲みます|パンを買います|手紙を書きます|りんごを食べます|果物を売ります",
        "家で|学校で|市場で|町で|駅で|台所で|公園で",
        "今日|毎日|朝|晩に|日曜日に",
        "{0}は{3}{2}{1}。",
    ),
    "th": (
        "ครู|หมอ|เด็ก|พี่ชายของฉัน|ชาวนา|นักเรียน|คนขับรถ",
        "อ่านหนังสือพิมพ์|ดื่มชา|ซื้อขนมปัง|เขียนจดหมาย|กินแอปเปิล|ขายผลไม้",
        "ที่บ้าน|ที่โรงเรียน|ที่ตลาด|ในเมือง|ที่สถานี|ในครัว|ในสวนสาธารณะ",
        "วันนี้|ทุกวัน|ในตอนเช้า|ในตอนเย็น|ในวันอาทิตย์",
        "{0}{1}{2}{3}",
    ),
    "km": (
        "គ្រូ|វេជ្ជបណ្ឌិត|ក្មេង|បងប្រុសខ្ញុំ|កសិករ|សិស្ស|អ្នកបើកបរ",
        "អានកាសែត|ផឹកតែ|ទិញនំប៉័ង|សរសេរសំបុត្រ|ញ៉ាំផ្លែប៉ោម|លក់ផ្លែឈើ",
        "នៅផ្ទះ|នៅសាលា|នៅផ្សារ|នៅក្រុង|នៅស្ថានីយ|នៅផ្ទះបាយ|នៅសួន",
        "ថ្ងៃនេះ|រាល់ថ្ងៃ|នៅពេលព្រឹក|នៅពេលល្ងាច|នៅថ្ងៃអាទិត្យ",
        "{0}{1}{2}{3}។",
    ),
}


def sentences(language: str) -> list[str]:
    """Makes the 1,470 sentences of a language, in the same order in each."""
    *words, pattern = GRAMMARS[language]
    return [pattern.format(*parts) for parts in itertools.product(*(w.split("|") for w in words))]


def pairs(source: str, target: str, count: int = 147) -> list[tuple[str, str]]:
    """Takes sentences of two languages from all over, no two of them the same."""
    found = list(zip(sentences(source), sentences(target), strict=True))
    return [found[101 * number % len(found)] for number in range(count)]


def chinese(folder: Path) -> list[tuple[str, str]]:
    """Writes text files for each split, in English and Chinese."""
    made = pairs("en", "zh")
    splits = {"train": made[14:], "dev": made[:7], "test": made[7:14]}
    for split, part in splits.items():
        for language, side in zip(("en", "zh"), zip(*part, strict=True), strict=True):
            (folder / f"{split}.{language}").write_text("\n".join(side) + "\n", encoding="utf-8")
    return made


def arabic(folder: Path) -> list[tuple[str, str]]:
    """Writes one table without a header, with the number of the line first."""
    made = pairs("ar", "en")
    rows = [f"{number}\t{source}\t{target}" for number, (source, target) in enumerate(made)]
    (folder / "pairs.tsv").write_text("\n".join(rows), encoding="utf-8")
    return made


def czech(folder: Path) -> list[tuple[str, str]]:
    """Writes text files as Notepad does: with a byte order mark, and CRLF at the ends of lines."""
    made = pairs("cs", "en")
    for language, side in zip(("cs", "en"), zip(*made, strict=True), strict=True):
        text = "\r\n".join((*side, ""))
        (folder / f"corpus_{language}.txt").write_bytes(text.encode("utf-8-sig"))
    return made


def table(folder: Path) -> list[tuple[str, str]]:
    """Writes a TSV whose header names the languages, for training, and one for tests."""
    made = pairs("en", "cs")
    for name, part in (("train", made[14:]), ("test", made[:14])):
        rows = ["id\tcs\ten"] + [f"{number}\t{cs}\t{en}" for number, (en, cs) in enumerate(part)]
        (folder / f"{name}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return [(target, source) for source, target in made]


def spreadsheet(folder: Path) -> list[tuple[str, str]]:
    """Writes the CSV of a spreadsheet: semicolons, quotes and line ends within the fields."""
    made = [(f'"{en}", he said', zh) for en, zh in pairs("en", "zh")]
    with open(folder / "Tabelle1.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["English", "Chinese", "Comment"])
        for number, (source, target) in enumerate(made):
            writer.writerow([source.replace(", ", ",\n"), target, "yes; no" * (number % 2)])
    return made


KINDS = (chinese, arabic, czech, table, spreadsheet)
