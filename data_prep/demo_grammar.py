"""A weighted grammar of things people say in a design meeting.

Each rule is a symbol and its alternatives, one a line, `WEIGHT words and <symbols>` (weight 1 where left out). The
expansions of <sentence> are what the demo corpus's speakers say, in lower case.
"""

import random
import re
from functools import cache

_RULES = {
    "sentence": """
        6 <statement>
        4 <question>
        3 <opinion>
        3 <report>
        2 <plan>
        2 <order>
        2 <number talk>
        1 <reply>
    """,
    "statement": """
        4 <opener> <who> <modal> <action> <when>
        3 <who> <modal> <action> because <reason>
        3 <opener> the <thing> <is> <quality>
        3 the <adjective> <thing> <does> the <thing> <place>
        2 <who> <thinks> that the <thing> <modal> <passive> <when>
        2 if <who> <action> then the <thing> <modal> be <quality>
        2 there are <count> <things> in the <adjective> <thing>
        1 <opener> <who> <thinks> <who> <modal> <action>
    """,
    "question": """
        4 <could> <person> <action> <when>
        3 what about the <adjective> <thing>
        2 why is the <thing> so <quality>
        1 why was the <thing> <quality>
        3 do you think the <thing> <modal> be <quality>
        2 how many <things> do we need for the <thing>
        2 who is going to <action>
        2 when can <person> <action>
        2 did <person> say that the <thing> is <quality>
        1 is it possible to <action> <when>
        1 where did you put the <adjective> <thing>
    """,
    "opinion": """
        3 <opener> i <feel> that <adjective> <things> are more <quality> than <adjective> <things>
        3 in my opinion the <thing> <is> too <quality> for <people>
        2 i would rather <action> than <action>
        2 <people> <like> <adjective> <things> with a <adjective> <thing>
        2 personally i <like> the <colour> <thing> better
        1 it seems to me that <reason>
    """,
    "report": """
        3 <person> <said> that <reason>
        3 <when> we <acted> the <adjective> <thing>
        3 <share> of <people> <said> that the <thing> was <quality>
        2 <person> has <done> the <thing> and the <thing>
        2 our <role> <acted> <count> <things> <place>
        1 according to the <document> <reason>
    """,
    "plan": """
        3 before the next meeting <person> will <action>
        2 first we <action> and then we <action>
        2 the next step is to <action> <when>
        2 <person> and <person> will <action> together
        1 let us meet again <when> to <action>
        1 i will send you the <document> <when>
    """,
    "order": """
        3 please <action> <when>
        2 <person> please <action> and <action>
        2 let us <action> before we <action>
        1 do not forget to <action>
        1 just <action> and send me the <document>
    """,
    "number talk": """
        3 the <thing> <modal> cost about <number> <money>
        2 we have <number> <money> left for the <thing>
        2 we need <number> more <units> to <action>
        2 only <share> of the <things> are <quality>
        1 that makes <number> <things> and <number> <things>
        1 the price went from <number> to <number> <money>
    """,
    "reply": """
        2 yes i <agree> with <person> about the <thing>
        2 no i do not <agree> because <reason>
        1 okay that sounds <quality> to me
        1 well maybe we should <action> instead
        1 thank you <person> that was very <quality>
        1 sorry i missed what you said about the <thing>
    """,
    "reason": """
        3 the <thing> <is> <adverb> <quality>
        2 <people> <like> <adjective> <things>
        2 we <acted> the <thing> <when>
        2 there is not enough <stuff> for the <thing>
        1 nobody <acted> the <adjective> <thing>
        1 the <thing> <does> too much <stuff>
    """,
    "action": """
        4 <act> the <adjective> <thing>
        4 <act> the <thing> <place>
        3 <act> <count> <things>
        3 <act> another <adjective> <thing> for <people>
        2 <act> the <thing> and the <thing>
        2 <talk> about the <thing> with <person>
        2 <talk> to the <role> about the <stuff>
        1 find out how to <act> the <thing>
        1 make the <thing> more <quality>
        1 give <person> the <document>
    """,
    "opener": """
        3 so
        3 well
        2 actually
        2 okay
        2 i mean
        1 of course
        1 on the other hand
        1 anyway
        1 basically
        1 right
    """,
    "who": """
        4 we
        3 i
        3 you
        3 they
        2 <person>
        2 our <role>
        1 everybody
        1 someone
    """,
    "person": "anna\ndaniel\nsarah\nmichael\nemma\nrobert\nlaura\npeter\nmaria\nthomas\nhelen\noliver\nnancy\nvictor",
    "role": "designer\nmanager\nengineer\nmarketing expert\nclient\nsupplier\nproject leader\nsecretary\ndirector",
    "people": """
        3 people
        2 users
        2 customers
        young people
        older people
        our clients
        children
        most parents
        students
        companies
        the testers
    """,
    "modal": "3 should\n3 will\n2 could\n2 might\ncan\nmust\nwould",
    "could": "3 could\n3 can\n2 will\nwould\nshould",
    "is": "5 is\n3 was\n2 looks\nseems\nbecame\nstays",
    "thinks": "3 think\n2 hope\n2 believe\nguess\nsuppose\nknow\nsaid\nnoticed",
    "feel": "3 feel\n3 think\n2 believe\nfound\nlearned\nheard",
    "agree": "4 agree\nargue\nwork\nfeel",
    "like": "3 like\n2 want\n2 need\nbuy\nprefer\nhate\nuse\nexpect\nenjoy\nmiss",
    "said": "4 said\n2 told us\nmentioned\nexplained\nshowed\nreported\nclaimed\ncomplained",
    "does": "needs\nuses\ncontrols\ncovers\nchanges\nfollows\nblocks\ncarries\nreplaces\nsupports\nbreaks\nimproves",
    "passive": """
        be <done>
        be <done>
        have to be <done>
        need to be <done>
        not be <done>
    """,
    "act": """
        check\ndiscuss\nchange\nbuild\ntest\nmove\nremove\ndesign\nfinish\nupdate\nreview\nprint\npaint\ndraw
        present\nsell\norder\nreplace\ncompare\nmeasure\nrepair\ncopy\nclose\nopen\nturn off\nswitch on\nlook at
        write down\npick up\nthink about\nwork on\nwait for
    """,
    "talk": "3 talk\nspeak\ncomplain\nwrite\nargue",
    "acted": """
        checked\ndiscussed\nchanged\nbuilt\ntested\nmoved\nremoved\ndesigned\nfinished\nupdated\nreviewed\nprinted
        painted\nsold\nbought\nordered\nreplaced\ncompared\nmeasured\nrepaired\nlost\nforgot\nfound\nbroke
    """,
    "done": """
        checked\ndiscussed\nchanged\nbuilt\ntested\nmoved\nremoved\ndesigned\nfinished\nupdated\nreviewed\nprinted
        painted\nsold\nordered\nreplaced\ncompared\nmeasured\nrepaired\nshown\ntaken\nwritten
    """,
    "thing": """
        3 remote control\n3 design\n3 button\n2 battery\n2 screen\n2 budget\n2 product\n2 idea\n2 market\n2 project
        prototype\ncase\ncover\nchip\nlogo\nmenu\nlight\nspeaker\nmicrophone\nkeyboard\ncable\nmodel\nmaterial\nshape
        signal\nvolume\nchannel\nsystem\nfunction\nfeature\nproblem\nquestion\nmeeting\nagenda\nschedule\nteam
        group\noffice\nwhite board\nlaptop\nprinter\ncamera\ntelephone\nwindow\ndoor\ntable\nchair\npaper\npen\nbox
        factory\nwarehouse\nstore\nkitchen\ntelevision\nradio\nwebsite\nprogram\npassword\nsurvey\ncontract
    """,
    "things": """
        3 buttons\n2 batteries\nscreens\nproducts\nideas\nmodels\ncases\nchips\nlights\nspeakers\ncables\nshapes
        channels\nfunctions\nfeatures\nproblems\nquestions\nmeetings\ncolours\ncopies\npages\npictures\nsamples
        numbers\nreasons\ntools\nparts\nboxes\ntests\nnotes\nfingers\ngames\nletters\nmessages\nmachines
    """,
    "stuff": """
        2 money\n2 time\npower\nspace\nenergy\nrubber\nplastic\nmetal\nwood\nsupport\ninterest\nwork\nnoise\npaper
        information\nattention\ntraining\nwater
    """,
    "document": "report\nminutes\nagenda\nlist\nslides\nsummary\ndrawing\ntable\nletter\ncontract\nmanual\nfile",
    "adjective": """
        2 new\n2 old\n2 small\n2 big\nfirst\nlast\nsecond\nmain\ngreen\nred\nblue\nyellow\nblack\nwooden\nplastic
        cheap\nexpensive\nsimple\nspecial\nmodern\nbroken\nsoft\nhard\nround\nsquare\nflat\nthin\nheavy\nfinal\nextra
        different\nspare\noriginal\nother\nbest\nlong\nshort\nloud\nquiet\nfancy\nsolar\nlarge\ntiny
    """,
    "colour": "red\ngreen\nblue\nyellow\nblack\nwhite\norange\npurple\nbrown\ngrey\npink\nsilver\ngolden",
    "quality": """
        2 good\n2 expensive\n2 useful\ncheap\nsimple\ninteresting\nimportant\ndifficult\neasy\nclear\nstrong\nweak\nslow
        fast\npopular\nready\nsafe\nbad\nuseless\nstrange\nboring\nstylish\nfriendly\nreliable\ncommon\npretty\nugly
        complicated\nlight\nheavy\nbright\ndark\nwarm\ncold\nnatural\nperfect\nrisky\nhelpful\nlucky
    """,
    "adverb": "2 very\n2 really\nquite\nalmost\nnever\nalways\nstill\nnot\npartly\nhardly\nsuddenly\nmuch too\nrather",
    "place": """
        in the kitchen\non the table\nin the office\nnext to the <thing>\nunder the <thing>\nbehind the <thing>
        in the living room\non the first floor\non the <colour> <thing>\nat home\nin the <document>\nfrom the <thing>
        at the back\non the left side\non the right side\nin europe\nin japan\nin london\noutside\nupstairs
    """,
    "when": """
        2 today\n2 tomorrow\n2 on <day>\n2 next <period>\nnow\nlast <period>\nthis <period>\nin <small> <periods>\nlater
        before lunch\nafter the break\nat <small> o'clock\nin <month>\nby the end of the <period>\nas soon as possible
        yesterday\nevery <period>\nduring the meeting\n<small> <periods> ago\nin the morning\nsome other day
    """,
    "day": "monday\ntuesday\nwednesday\nthursday\nfriday\nsaturday\nsunday",
    "month": """
        january\nfebruary\nmarch\napril\njune\njuly\naugust\nseptember\noctober\nnovember\ndecember
    """,
    "period": "2 week\nmonth\nyear\nsummer\nwinter\nspring\nmorning\nafternoon\nevening\nweekend",
    "periods": "minutes\nhours\ndays\nweeks\nmonths\nyears",
    "units": "3 <periods>\npeople\neuros\n<things>",
    "small": "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\ntwelve",
    "tens": "twenty\nthirty\nforty\nfifty\nsixty\nseventy\neighty\nninety",
    "number": """
        2 <small>\n3 <tens>\n3 <tens> <small>\n2 <small> hundred\n1 <small> thousand\n2 <small> hundred and <tens>
        1 half a million\n1 <small> point <small>\n1 fifteen\n1 eighteen
    """,
    "count": "2 a few\n2 some\n2 two\nthree\nmany\nseveral\nmore\nall\nfour\nfive\n<number>\nboth\nno",
    "share": "half\nmost\n<tens> percent\n<tens> <small> percent\nmore than half\na quarter\na third\nnearly all",
    "money": "2 euros\n2 dollars\npounds\ncents\nmillion euros",
}

_SYMBOL = re.compile(r"<([a-z ]+)>")
_WEIGHTED = re.compile(r"(?:(\d+) )?(.+)")


def make_sentence(generator: random.Random, *, surprise: float = 0.0) -> list[str]:
    """The words of one sentence; each word is, with probability `surprise`, any word of the vocabulary instead.

    `surprise` raises the perplexity without touching the vocabulary: from 0 to 1.
    """
    words = _expand("<sentence>", generator).split()
    if surprise:
        vocabulary = list_words()
        words = [generator.choice(vocabulary) if generator.random() < surprise else word for word in words]
    return words


@cache
def list_words() -> list[str]:
    """Every word that a sentence can have, sorted."""
    texts = (text for alternatives in _alternatives().values() for text in alternatives[0])
    return sorted({word for text in texts for word in _SYMBOL.sub(" ", text).split()})


@cache
def _alternatives() -> dict[str, tuple[list[str], list[int]]]:
    """Symbol -> its alternatives and their weights."""
    rules = {}
    for symbol, text in _RULES.items():
        matches = [_WEIGHTED.fullmatch(line.strip()) for line in text.splitlines() if line.strip()]
        found = [(match[2], int(match[1] or 1)) for match in matches if match]
        rules[symbol] = ([alternative for alternative, _ in found], [weight for _, weight in found])
    return rules


def _expand(text: str, generator: random.Random) -> str:
    def replace(match: re.Match[str]) -> str:
        choices, weights = _alternatives()[match[1]]
        return _expand(generator.choices(choices, weights)[0], generator)

    return _SYMBOL.sub(replace, text)
