"""Pure rules of the catalog: what a code of the source stands for, titles, categories."""

import re
from collections.abc import Mapping
from typing import Final

_GOODS: Final = re.compile(r"(\d{5}|DCGS|gift_)", re.ASCII)
_NOT_IN_SKU: Final = re.compile(r"[^A-Za-z0-9._-]")
_TITLE_WORD: Final = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?")
_SMALL_WORDS: Final = frozenset({"a", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"})
TITLE_MAX_LENGTH: Final = 120

# The first category with a word of the title takes the product; the order decides ("Christmas candle", "tea towel").
CATEGORIES: Final[Mapping[str, tuple[str, str]]] = {
    "christmas": ("Christmas", "christmas xmas advent reindeer santa snowflake snowman bauble baubles nativity"),
    "easter": ("Easter", "easter bunny chick chicks hen"),
    "gift-vouchers": ("Gift vouchers", "voucher"),
    "cards-and-wrap": (
        "Cards and wrap",
        "card cards wrap ribbon ribbons tissue tape gift-tag tags envelope envelopes stickers sticker postcard",
    ),
    "jewellery": (
        "Jewellery",
        "necklace bracelet earrings earring ring brooch charm bangle pendant bead beads diamante hair hairclip "
        "hairslide hairgrip tiara jewellery trinket",
    ),
    "candles-and-lights": (
        "Candles and lights",
        "candle candles t-light light lights lantern lamp candlestick candleholder incense chandelier "
        "nightlight tealight",
    ),
    "kitchen": (
        "Kitchen and dining",
        "mug mugs cup cups saucer bowl bowls plate plates tea teapot coffee cake cakes cakestand cutlery kitchen "
        "baking jug tray trays coaster coasters egg bottle jar jars jam oven apron napkin napkins spoon spoons fork "
        "knife placemat tableware cookie biscuit dinner dish pan recipe lunch snack pantry doily doilies glass "
        "teatowel towel",
    ),
    "bags": ("Bags and purses", "bag bags purse shopper tote wallet satchel handbag suitcase case cases"),
    "garden": (
        "Garden",
        "garden gardeners plant planter flowerpot pot watering herb bird birdhouse seed seeds parasol trellis outdoor "
        "picnic gardening doormat",
    ),
    "toys": (
        "Toys and children",
        "toy toys doll dolly dolls children childrens childs child's kids baby girl girls boy boys game games jigsaw "
        "puzzle skipping playhouse soldier soldiers circus spaceboy teddy bear dinosaur puppet yo-yo spinning",
    ),
    "stationery": (
        "Stationery",
        "notebook notebooks pen pens pencil pencils paper journal diary album calendar clip clips stamp stamps magnet "
        "magnets memo memoboard blackboard chalkboard ruler eraser erasers calculator organiser sketchbook scrapbook",
    ),
    "party": ("Party", "party birthday balloon balloons bunting confetti straws banner cocktail"),
    "textiles": (
        "Textiles and cushions",
        "cushion cushions throw rug blanket fabric felt felts knitted knitting sewing crochet quilt lace flannel "
        "hottie water mat mats patch patches scarf",
    ),
    "storage": (
        "Boxes and storage",
        "box boxes tin tins basket baskets drawer drawers cabinet storage crate hook hooks rack shelf hanger hangers "
        "bin bins holder stand",
    ),
    "decoration": (
        "Home decoration",
        "decoration decorations frame frames clock mirror sign signs wall art heart hearts vase flower flowers garland "
        "wreath picture ornament hanging metal block letter number knob doorknob door star angel artificial tree ball",
    ),
    "other": ("Everything else", ""),
}
_CATEGORY_WORDS: Final = tuple((slug, frozenset(words.split())) for slug, (_, words) in CATEGORIES.items() if words)
_WORDS: Final = re.compile(r"[a-z]+(?:[-'][a-z]+)*")


def is_goods(code: str) -> bool:
    """Tell whether a code of the source is goods, rather than postage, a fee, a discount, a correction."""
    return _GOODS.match(code) is not None


def sku_of_stock_code(code: str) -> str | None:
    """Return the SKU that a code of the source became, or None for what is no goods.

    Case counts, as it does there; a character that no SKU has becomes `-`.
    """
    return _NOT_IN_SKU.sub("-", code) if is_goods(code) else None


def title_of(description: str) -> str:
    """Return a title in mixed case of a description in capitals."""
    words = " ".join(description.split())
    titled = _TITLE_WORD.sub(lambda match: _capitalised(match.group(), is_first=match.start() == 0), words)
    return titled[:TITLE_MAX_LENGTH].rstrip()


def category_of(title: str) -> str:
    """Return the slug of the category that a title's words put a product in."""
    words = set(_WORDS.findall(title.lower()))
    words |= {part for word in words for part in word.split("-")}
    return next((slug for slug, known in _CATEGORY_WORDS if words & known), "other")


def _capitalised(word: str, *, is_first: bool) -> str:
    lower = word.lower()
    return lower if lower in _SMALL_WORDS and not is_first else lower[0].upper() + lower[1:]
