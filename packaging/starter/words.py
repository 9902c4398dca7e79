"""The plain words that questions, small talk and stories are made from; lists and nothing else."""
# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

NAMES = (
    "Ada Ben Cleo Dan Elif Finn Grace Hana Ivan Jude Kofi Lena Mia Noah Omar Petra Quinn Rosa Sam "
    "Tara Uma Viktor Wren Yara Zoe"
).split()

THINGS = (
    "apples books boxes buttons cards coins cups eggs flowers keys lemons letters marbles nuts "
    "pears pencils plates shells stamps stones tickets tiles toys"
).split()

ANIMALS = (
    "badger bear cat cow crow deer dog dolphin duck eagle fox frog goat goose hare hedgehog hen "
    "heron horse lion mole mouse otter owl pig rabbit raven robin seal sheep sparrow squirrel swan "
    "tiger toad trout whale wolf"
).split()

COLOURS = "black blue brown gold green grey orange pink purple red silver white yellow".split()

FOODS = (
    "apple bread butter cabbage carrot cheese cherry cream honey jam lemon milk onion pasta peach "
    "pear pepper plum potato rice salt soup sugar tea tomato"
).split()

PLACES = (
    "beach bridge castle church city farm field forest garden harbour hill house island kitchen "
    "lake library market meadow mill mountain museum park river road school shop square station "
    "street theatre tower town valley village"
).split()

JOBS = (
    "baker builder captain carpenter cook dentist doctor driver farmer fisher gardener guide judge "
    "miller nurse painter pilot poet potter sailor singer tailor teacher weaver writer"
).split()

ADJECTIVES = (
    "big bright brave calm clean clever cold dark deep dry early empty fast fine fresh friendly "
    "gentle happy heavy high kind large late light little long loud narrow new old open patient "
    "plain proud quick quiet rich round rusty sharp short shy slow small soft strong sunny sweet "
    "tall thin tidy tired warm wide wild wise wooden young"
).split()

VERBS = (
    "asked bought brought built called carried cleaned climbed counted crossed drew found gave "
    "heard helped hid kept knew learned left liked looked lost made met mended opened painted "
    "planted played read saw sang sold thanked told took visited waited walked wanted watched "
    "worked wrote"
).split()

SPELLED = (
    "anchor apron banana barrel basket beetle berry bottle bubble button camera candle canvas "
    "carpet cellar cotton dinner dollar donkey drawer engine feather ferry fiddle filter flannel "
    "flute funnel gallop garlic ginger gravel guitar hammer hollow jacket jelly kettle ladder "
    "lantern letter lizard locket magnet mammal marble meadow mirror mitten muffin napkin needle "
    "noodle nutmeg oyster paddle pebble pencil pepper pillow planet pocket puddle puppet puzzle "
    "rabbit ribbon rocket saddle sailor salmon sandal scissors settee shovel signal spider spoon "
    "stable summer sunset tablet teapot thimble thunder ticket timber tunnel turnip velvet violin "
    "waffle walnut wallet whistle willow window winter yellow zipper"
).split()

CAPITALS = {
    "Austria": "Vienna", "Belgium": "Brussels", "Brazil": "Brasilia", "Canada": "Ottawa",
    "Chile": "Santiago", "China": "Beijing", "Cuba": "Havana", "Denmark": "Copenhagen",
    "Egypt": "Cairo", "England": "London", "Finland": "Helsinki", "France": "Paris",
    "Germany": "Berlin", "Ghana": "Accra", "Greece": "Athens", "Hungary": "Budapest",
    "India": "New Delhi", "Ireland": "Dublin", "Italy": "Rome", "Japan": "Tokyo",
    "Kenya": "Nairobi", "Norway": "Oslo", "Peru": "Lima", "Poland": "Warsaw",
    "Portugal": "Lisbon", "Spain": "Madrid", "Sweden": "Stockholm", "Turkey": "Ankara",
}  # fmt: skip
