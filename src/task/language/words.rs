//! The words of the synthetic language, as lists separated by spaces.
//!
//! Most are ordinary English words that are one token for GPT-2 too, so that the same prompts can be put to both.

/// Names that training never shows in a sentence about two people: the `ioi` task is made of these. Female and male
/// in turn.
pub const HELD_OUT: &str = "\
    Mary John Anna Paul Laura Mark Kate David Emma Peter Alice Michael Lisa Robert Julia Daniel Sarah \
    James Jane Tom";

/// Names that training does show there, female and male in turn.
pub const SEEN: &str = "\
    Rachel George Helen Simon Susan Steven Maria Henry Amy Frank Karen Eric Diana Scott Rose Roger \
    Claire Adam Nancy Jack";

/// First halves of the invented names: with [`MADE_LAST`] they make 160 of them.
pub const MADE_FIRST: &str = "\
    Ba De Fi Go Ku La Me Ni Po Ru Sa Te Vi Zo Ja Hu";

/// Second halves of the invented names.
pub const MADE_LAST: &str = "\
    lan mir nor ron sek tas vin dra bel kos";

/// First names of the people about whom there are facts.
pub const FIRST_NAMES: &str = "\
    Ada Alan Carl Clara Edwin Elsa Felix Flora Gus Greta Hugo Ines Ivan Iris Jonas Judith Karl Lena Leo \
    Marta Nils Olga Otto Petra";

/// Their last names.
pub const LAST_NAMES: &str = "\
    Abbott Becker Carver Dalton Ellis Fischer Garner Holt Ingram Jensen Keller Larsen Mercer Norris \
    Osborn Palmer Quinn Ramsey Sawyer Tanner Upton Vance Weaver Yates";

/// What people play.
pub const SPORTS: &str = "\
    tennis football hockey golf chess boxing rowing fencing cricket rugby judo sailing skiing cycling \
    archery polo";

/// What people work as.
pub const JOBS: &str = "\
    baker doctor lawyer farmer painter singer pilot nurse sailor teacher writer judge driver tailor \
    plumber chemist";

/// Where people live.
pub const CITIES: &str = "\
    Boston Chicago Geneva Milan Hamburg Seattle Lyon Naples Bristol Sydney Toronto Osaka Mumbai Dallas \
    Denver Porto";

/// Countries, in the order of [`CAPITALS`].
pub const COUNTRIES: &str = "\
    France Germany Italy Spain England Russia China Japan Egypt Greece Austria Poland Ireland Norway \
    Sweden Finland Denmark Portugal Turkey Iran Iraq Syria Lebanon Kenya Cuba Peru Chile Canada Ukraine \
    Hungary Belgium Thailand Vietnam Serbia Bulgaria Romania Libya Afghanistan Nepal Qatar";

/// Their capitals.
pub const CAPITALS: &str = "\
    Paris Berlin Rome Madrid London Moscow Beijing Tokyo Cairo Athens Vienna Warsaw Dublin Oslo \
    Stockholm Helsinki Copenhagen Lisbon Ankara Tehran Baghdad Damascus Beirut Nairobi Havana Lima \
    Santiago Ottawa Kiev Budapest Brussels Bangkok Hanoi Belgrade Sofia Bucharest Tripoli Kabul \
    Kathmandu Doha";

/// Nouns whose plural adds an s.
pub const SINGULAR: &str = "\
    key boy girl dog cat car tree bird door chair letter picture farm ship horse lamp window table \
    student guard brother river machine garden";

/// Where people go.
pub const PLACES: &str = "\
    store park school beach office station garden house market hospital museum library restaurant zoo \
    church theater";

/// What people give.
pub const OBJECTS: &str = "\
    drink ring book ball bone kiss computer ticket necklace basket gift hat cup pen map coin";

/// What a subject can be.
pub const ADJECTIVES: &str = "\
    happy tired old new large small lost ready broken quiet late famous";

/// Where a subject can be.
pub const PREPOSITIONS: &str = "\
    near behind beside under";

/// What lasts from one year to another.
pub const EVENTS: &str = "\
    war siege strike trial voyage feast reign plague festival mission drought truce";

/// Days of the week, in order.
pub const DAYS: &str = "\
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday";

/// Months, in order.
pub const MONTHS: &str = "\
    January February March April May June July August September October November December";

/// Words that occur only in random sequences.
pub const FILLER: &str = "\
    apple bread cheese milk water sugar salt pepper rice corn bean fish meat soup cake pie egg butter \
    honey lemon stone sand glass iron gold silver copper paper wood cotton wool silk rope nail hammer \
    saw wheel engine bridge road tunnel tower castle wall roof floor stairs kitchen bed blanket pillow \
    mirror clock bell drum flute piano violin song dance poem story dream cloud rain snow wind storm \
    thunder sun moon star sky hill valley forest desert island ocean lake pond grass flower leaf root \
    seed bear wolf fox lion tiger snake frog spider bee ant red blue green yellow purple orange black \
    white brown grey one two three four five six seven eight nine ten north south east west above below \
    left right";

/// Punctuation and the words that hold sentences together.
pub const FUNCTION: &str = "\
    . , : The the a and When After While Then went to gave handed offered sent passed arrived at were \
    working had walked is are was near behind beside under capital of day month after lasted from year \
    in lives city works as plays sport lost because he she so Yesterday";

/// A list as its words.
pub fn list(words: &'static str) -> Vec<&'static str> {
    words.split_ascii_whitespace().collect()
}
