"""Which characters are candidates for `glyphs`, by script."""

from collections.abc import Mapping
from types import MappingProxyType

LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzßæœðþØŁŋđ0123456789&@#%?$€£§+=*"
GREEK = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηθικλμνξοπρςστυφχψω"
CYRILLIC = "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюяЄЂЉЊЋЏҐ"
HEBREW = "אבגדהוזחטיךכלםמןנסעףפץצקרשת"
ARABIC = "ءابتثجحخدذرزسشصضطظعغفقكلمنهوي"
DEVANAGARI = "अआइईउऊऋएऐओऔकखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसह"
THAI = "".join(map(chr, range(0x0E01, 0x0E2F)))
HIRAGANA = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
)
KATAKANA = (
    "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフホマミムメモヤユヨラルレロワヲン"
)
# The characters of the first two school years in Japan, but for those that kana look like.
KANJI = (
    "右雨円王音下火花貝学気九休玉金空月犬見五校左三山子四糸字耳七車手十出女小上森人水正生青石赤"
    "川先早草足村大男竹中虫町天田土日入年白百文木本名目立林六引羽雲園遠何科夏家歌画回会海絵外角"
    "楽活間丸岩顔汽記帰弓牛魚京強教近兄形計元言原戸古午後語公広交光考行高黄合谷国黒今才細作算止"
    "市矢姉思紙寺自時室社弱首秋週春書少場色食心新親図数西声星晴切雪船線前組走多太体台地池知茶昼"
    "長鳥朝直通弟店点電刀冬当東答頭同道読内南肉馬売買麦半番父風分聞米歩母方北毎妹万明鳴毛門夜野"
    "友用曜来里理話"
)

# By the subset of fonts that draws them. The order says which of two alike is kept.
CANDIDATES: Mapping[str, str] = MappingProxyType(
    {
        "latin": LATIN,
        "greek": GREEK,
        "cyrillic": CYRILLIC,
        "hebrew": HEBREW,
        "arabic": ARABIC,
        "devanagari": DEVANAGARI,
        "thai": THAI,
        "hiragana": HIRAGANA,
        "katakana": KATAKANA,
        "kanji": KANJI,
    }
)
SCRIPT_OF: Mapping[str, str] = MappingProxyType(
    {character: script for script, text in CANDIDATES.items() for character in text}
)
