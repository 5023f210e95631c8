"""Words of the demo corpus that carry meaning, English beside German, and which go together.

No word has two meanings. Kinds decide what goes with what: an adjective describes nouns of its
kinds, and a verb takes subjects and objects of its kinds, so that nobody eats a table.
"""

import functools

from pipelines.demo_corpus.inflection import MODALS, Adjective, Adverb, Noun, Verb, verb

# Some kinds have a special use. Only "grown" persons are old or young. "kin" always has a
# possessive ("my uncle"), and "unowned" never has one ("my man" is a husband). One runs into an
# "interior", and waits behind a "landmark".
GOODS = "animal food text thing clothes"
NOUNS = (
    Noun("man", "men", "Mann", "m", "Männer", "person grown unowned"),
    Noun("woman", "women", "Frau", "f", "Frauen", "person grown unowned"),
    Noun("child", "children", "Kind", "n", "Kinder", "person"),
    Noun("boy", "boys", "Junge", "m", "Jungen", "person unowned", weak="n"),
    Noun("girl", "girls", "Mädchen", "n", "Mädchen", "person unowned"),
    Noun("teacher", "teachers", "Lehrer", "m", "Lehrer", "person grown"),
    Noun("doctor", "doctors", "Arzt", "m", "Ärzte", "person grown"),
    Noun("student", "students", "Student", "m", "Studenten", "person grown", weak="en"),
    Noun("neighbor", "neighbors", "Nachbar", "m", "Nachbarn", "person grown", weak="n"),
    Noun("queen", "queens", "Königin", "f", "Königinnen", "person grown unowned"),
    Noun("guest", "guests", "Gast", "m", "Gäste", "person grown"),
    Noun("uncle", "uncles", "Onkel", "m", "Onkel", "person grown kin"),
    Noun("brother", "brothers", "Bruder", "m", "Brüder", "person grown kin"),
    Noun("sister", "sisters", "Schwester", "f", "Schwestern", "person grown kin"),
    Noun("daughter", "daughters", "Tochter", "f", "Töchter", "person grown kin"),
    Noun("dog", "dogs", "Hund", "m", "Hunde", "animal"),
    Noun("cat", "cats", "Katze", "f", "Katzen", "animal"),
    Noun("horse", "horses", "Pferd", "n", "Pferde", "animal"),
    Noun("bird", "birds", "Vogel", "m", "Vögel", "animal"),
    Noun("cow", "cows", "Kuh", "f", "Kühe", "animal"),
    Noun("pig", "pigs", "Schwein", "n", "Schweine", "animal"),
    Noun("mouse", "mice", "Maus", "f", "Mäuse", "animal"),
    Noun("rabbit", "rabbits", "Kaninchen", "n", "Kaninchen", "animal"),
    Noun("apple", "apples", "Apfel", "m", "Äpfel", "food"),
    Noun("pear", "pears", "Birne", "f", "Birnen", "food"),
    Noun("egg", "eggs", "Ei", "n", "Eier", "food"),
    Noun("cake", "cakes", "Kuchen", "m", "Kuchen", "food"),
    Noun("potato", "potatoes", "Kartoffel", "f", "Kartoffeln", "food"),
    Noun("steak", "steaks", "Steak", "n", "Steaks", "food"),
    Noun("book", "books", "Buch", "n", "Bücher", "text"),
    Noun("letter", "letters", "Brief", "m", "Briefe", "text"),
    Noun("poem", "poems", "Gedicht", "n", "Gedichte", "text"),
    Noun("novel", "novels", "Roman", "m", "Romane", "text"),
    Noun("story", "stories", "Geschichte", "f", "Geschichten", "text"),
    Noun("message", "messages", "Nachricht", "f", "Nachrichten", "text"),
    Noun("table", "tables", "Tisch", "m", "Tische", "thing"),
    Noun("chair", "chairs", "Stuhl", "m", "Stühle", "thing"),
    Noun("umbrella", "umbrellas", "Regenschirm", "m", "Regenschirme", "thing closable"),
    Noun("suitcase", "suitcases", "Koffer", "m", "Koffer", "thing closable"),
    Noun("bag", "bags", "Tasche", "f", "Taschen", "thing closable"),
    Noun("box", "boxes", "Kiste", "f", "Kisten", "thing closable"),
    Noun("clock", "clocks", "Uhr", "f", "Uhren", "thing"),
    Noun("bicycle", "bicycles", "Fahrrad", "n", "Fahrräder", "thing"),
    Noun("tent", "tents", "Zelt", "n", "Zelte", "thing"),
    Noun("radio", "radios", "Radio", "n", "Radios", "thing"),
    Noun("window", "windows", "Fenster", "n", "Fenster", "opening closable unowned"),
    Noun("door", "doors", "Tür", "f", "Türen", "opening closable unowned"),
    Noun("coat", "coats", "Mantel", "m", "Mäntel", "clothes"),
    Noun("jacket", "jackets", "Jacke", "f", "Jacken", "clothes"),
    Noun("shirt", "shirts", "Hemd", "n", "Hemden", "clothes"),
    Noun("dress", "dresses", "Kleid", "n", "Kleider", "clothes"),
    Noun("garden", "gardens", "Garten", "m", "Gärten", "place interior"),
    Noun("forest", "forests", "Wald", "m", "Wälder", "place interior unowned"),
    Noun("kitchen", "kitchens", "Küche", "f", "Küchen", "place interior"),
    Noun("city", "cities", "Stadt", "f", "Städte", "place interior"),
    Noun("village", "villages", "Dorf", "n", "Dörfer", "place interior"),
    Noun("house", "houses", "Haus", "n", "Häuser", "place interior landmark"),
    Noun("hotel", "hotels", "Hotel", "n", "Hotels", "place interior landmark"),
    Noun("castle", "castles", "Schloss", "n", "Schlösser", "place interior landmark unowned"),
    Noun("school", "schools", "Schule", "f", "Schulen", "place interior landmark"),
    Noun("church", "churches", "Kirche", "f", "Kirchen", "place interior landmark unowned"),
    Noun("tower", "towers", "Turm", "m", "Türme", "place landmark unowned"),
)

ADJECTIVES = (
    Adjective("old", "alt", "grown animal text thing opening clothes place", "age"),
    Adjective("young", "jung", "grown animal", "age"),
    Adjective("new", "neu", "text thing opening clothes", "age"),
    Adjective("small", "klein", "person animal food thing opening clothes place", "size"),
    Adjective("big", "groß", "animal food thing opening clothes place", "size"),
    Adjective("beautiful", "schön", "animal text thing clothes place", "looks"),
    Adjective("expensive", "teuer", "food thing clothes", "price", stem="teur"),
    Adjective("cheap", "billig", "food thing clothes", "price"),
    Adjective("heavy", "schwer", "thing", "weight"),
    Adjective("red", "rot", "thing opening clothes", "color"),
    Adjective("blue", "blau", "thing opening clothes", "color"),
    Adjective("black", "schwarz", "animal thing opening clothes", "color"),
    Adjective("white", "weiß", "animal thing opening clothes", "color"),
    Adjective("fresh", "frisch", "food", "age"),
    Adjective("interesting", "interessant", "text place", "interest"),
    Adjective("boring", "langweilig", "text place", "interest"),
    Adjective("short", "kurz", "text", "length"),
    Adjective("dark", "dunkel", "place", "light", stem="dunkl"),
    Adjective("famous", "berühmt", "person text", "fame"),
    Adjective("rich", "reich", "person", "wealth"),
    Adjective("friendly", "freundlich", "person animal", "manner"),
    Adjective("happy", "glücklich", "person", "mood", state=True),
    Adjective("sad", "traurig", "person", "mood", state=True),
    Adjective("tired", "müde", "person animal", "strength", stem="müd", state=True),
    Adjective("hungry", "hungrig", "person animal", "hunger", state=True),
)

# fmt: off
VERBS = (
    verb("see, sees, saw, -", "sehen, sieht, gesehen",
         "person animal thing landmark", "person animal"),
    verb("hear, hears, heard, -", "hören, hört, gehört",
         "person animal", "person animal", modal=False),
    verb("find, finds, found, -", "finden, findet, gefunden", "animal thing text clothes"),
    verb("need, needs, needed, -", "brauchen, braucht, gebraucht",
         "food thing clothes", modal=False),
    verb("buy, buys, bought, buying", "kaufen, kauft, gekauft", GOODS),
    verb("look for, looks for, looked for, looking for", "suchen, sucht, gesucht",
         "person animal thing"),
    verb("visit, visits, visited, visiting", "besuchen, besucht, besucht", "person landmark"),
    verb("carry, carries, carried, carrying", "tragen, trägt, getragen", "thing", place=""),
    verb("repair, repairs, repaired, repairing", "reparieren, repariert, repariert",
         "thing opening"),
    verb("clean, cleans, cleaned, cleaning", "putzen, putzt, geputzt", "thing opening"),
    verb("wash, washes, washed, washing", "waschen, wäscht, gewaschen", "animal clothes"),
    verb("feed, feeds, fed, feeding", "füttern, füttert, gefüttert", "animal"),
    verb("eat, eats, ate, eating", "essen, isst, gegessen", "food", "person animal"),
    verb("read, reads, read, reading", "lesen, liest, gelesen", "text"),
    verb("write, writes, wrote, writing", "schreiben, schreibt, geschrieben", "text"),
    verb("open, opens, opened, opening", "aufmachen, macht, aufgemacht", "closable", prefix="auf"),
    verb("close, closes, closed, closing", "zumachen, macht, zugemacht", "closable", prefix="zu"),
    verb("try on, tries on, tried on, trying on", "anprobieren, probiert, anprobiert",
         "clothes", prefix="an"),
    verb("bring, brings, brought, -", "mitbringen, bringt, mitgebracht",
         "food text", prefix="mit", place=""),
    verb("invite, invites, invited, inviting", "einladen, lädt, eingeladen",
         "person", prefix="ein", place=""),
    verb("call, calls, called, calling", "anrufen, ruft, angerufen", "person", prefix="an"),
    verb("help, helps, helped, helping", "helfen, hilft, geholfen", "person animal", case="dative"),
    verb("thank, thanks, thanked, thanking", "danken, dankt, gedankt", "person", case="dative"),
    verb("follow, follows, followed, following", "folgen, folgt, gefolgt",
         "person animal", "person animal", case="dative", auxiliary="sein"),
    verb("belong to, belongs to, belonged to, -", "gehören, gehört, gehört",
         "person", "animal text thing clothes",
         case="dative", place="", timeless=True, modal=False),
    verb("give, gives, gave, giving", "geben, gibt, gegeben", "food text thing", recipient=True),
    verb("show, shows, showed, showing", "zeigen, zeigt, gezeigt",
         "animal text clothes", recipient=True),
    verb("send, sends, sent, sending", "schicken, schickt, geschickt", "food text", recipient=True),
    verb("sleep, sleeps, slept, sleeping", "schlafen, schläft, geschlafen",
         subjects="person animal"),
    verb("wait, waits, waited, waiting", "warten, wartet, gewartet", subjects="person animal"),
    verb("work, works, worked, working", "arbeiten, arbeitet, gearbeitet"),
    verb("dance, dances, danced, dancing", "tanzen, tanzt, getanzt"),
    verb("walk, walks, walked, walking", "gehen, geht, gegangen",
         subjects="person animal", auxiliary="sein", place="whereto"),
)
# fmt: on
COST = verb("cost, costs, cost, -", "kosten, kostet, gekostet")
THINK = verb("think, thinks, -, -", "glauben, glaubt, -")
HOPE = verb("hope, hopes, -, -", "hoffen, hofft, -")
SAY = verb("say, says, -, -", "sagen, sagt, -")
KNOW = verb("know, knows, -, -", "wissen, weiß, -", german_first="weiß")
REPORTING = (  # verb, negated, English and German conjunction
    (THINK, False, "that", "dass"),
    (THINK, True, "that", "dass"),
    (HOPE, False, "that", "dass"),
    (SAY, False, "that", "dass"),
    (KNOW, False, "that", "dass"),
    (KNOW, True, "whether", "ob"),
)

ADVERBS = (
    Adverb("often", "oft", "present", frequency=True, before_verb=True),
    Adverb("always", "immer", "present", frequency=True, before_verb=True),
    Adverb("sometimes", "manchmal", "present", frequency=True, before_verb=True),
    Adverb("every day", "jeden Tag", "present", frequency=True),
    Adverb("every week", "jede Woche", "present", frequency=True),
    Adverb("in winter", "im Winter", "present"),
    Adverb("yesterday", "gestern", "past"),
    Adverb("last week", "letzte Woche", "past"),
    Adverb("on Monday", "am Montag", "past future"),
    Adverb("today", "heute", "past future can must should want"),
    Adverb("tomorrow", "morgen", "future can must should want"),
    Adverb("soon", "bald", "future must"),
)
PREPOSITIONS = {  # German, kind of place
    "in": ("in", "interior"),
    "into": ("in", "interior"),
    "behind": ("hinter", "landmark animal"),
    "next to": ("neben", "landmark animal"),
    "in front of": ("vor", "landmark animal"),
}
CONTRACTIONS = {"in dem ": "im ", "in das ": "ins "}
NAMES = ("Anna", "Clara", "Emma", "Lukas", "Maria", "Peter", "Tom")
NUMERALS = (
    *zip(
        "two three four five six seven eight nine ten eleven twelve".split(),
        "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split(),
        strict=True,
    ),
    *((str(number), str(number)) for number in range(13, 31)),
)


@functools.cache
def nouns_of(kinds: str) -> tuple[Noun, ...]:
    """Lists the nouns of any of the kinds."""
    return tuple(n for n in NOUNS if not set(n.kinds.split()).isdisjoint(kinds.split()))


@functools.cache
def adjectives_of(noun: Noun) -> tuple[Adjective, ...]:
    """Lists the adjectives that can describe a noun."""
    return tuple(a for a in ADJECTIVES if noun in nouns_of(a.kinds))


@functools.cache
def tenses_of(verb: Verb) -> tuple[str, ...]:
    """Lists the tenses of a verb, likelier ones several times; "read" has no visible past."""
    tenses: tuple[str, ...] = ("present",) * 4 + ("future",) * 2
    tenses += ("past",) * 4 if verb.past != verb.base else ()
    tenses += ("progressive",) * 4 if verb.ing else ()
    return tenses + (MODALS if verb.modal else ())


@functools.cache
def adverbs_of(tense: str, frequency: bool) -> tuple[Adverb, ...]:
    """Lists the adverbs that go with a tense, with or without those of frequency."""
    return tuple(
        adverb
        for adverb in ADVERBS
        if tense in adverb.tenses.split() and (frequency or not adverb.frequency)
    )
