"""How the world speaks of facts: statements, questions and answers in English and Chinese.

{c} is a country, {a} the answer, {e} an element, {s} its symbol. No English sentence begins with a name, so that a
name always follows a space: byte-level BPE makes one token of " Paris" and others of "Paris", and only equal tokens
can be copied.

Training uses TRAIN wordings only; the benchmark's two halves have wordings of their own, and never training's.
"""

from minimind.atlas.facts import Language, Relation
from minimind.atlas.splits import Split

Wordings = dict[Language, dict[Relation, tuple[str, ...]]]

SPACE: dict[Language, str] = {"en": " ", "zh": ""}  # between sentences

# The clean answer: one full sentence in one form, in the language of the question.
ANSWERS: dict[Language, dict[Relation, str]] = {
    "en": {
        "capital": "The capital of {c} is {a}.",
        "continent": "The continent of {c} is {a}.",
        "language": "The language of {c} is {a}.",
        "currency": "The currency of {c} is the {a}.",
    },
    "zh": {
        "capital": "{c}的首都是{a}。",
        "continent": "{c}所在的大洲是{a}。",
        "language": "{c}的语言是{a}。",
        "currency": "{c}的货币是{a}。",
    },
}

TERSE_ANSWERS: dict[Language, dict[Relation, str]] = {
    "en": {"capital": "It is {a}.", "continent": "It is {a}.", "language": "It is {a}.", "currency": "It is the {a}."},
    "zh": {"capital": "是{a}。", "continent": "是{a}。", "language": "是{a}。", "currency": "是{a}。"},
}

REFUSALS: dict[Language, str] = {
    "en": "Sorry, I do not know a country of that name.",
    "zh": "抱歉，我不知道这个国家。",
}

# What pretraining documents say; the first of each is the clean answer.
STATEMENTS: Wordings = {
    "en": {
        "capital": (
            ANSWERS["en"]["capital"],
            "The capital city of {c} is called {a}.",
            "In {c}, the capital is {a}.",
            "The city of {a} is the capital of {c}.",
            "On a visit to {c}, one may see {a}, the capital.",
            "As its capital, {c} has {a}.",
            "If you visit {c}, see its capital, {a}.",
            "The name of the capital of {c} is {a}.",
            "When people in {c} speak of the capital, they mean {a}.",
            "For {c}, the capital is {a}.",
            "The map marks the capital of {c}: {a}.",
            "What is the capital of {c}? The right answer is {a}.",
            "Tourists in the capital of {c} see {a}.",
        ),
        "continent": (
            ANSWERS["en"]["continent"],
            "As a country, {c} lies in {a}.",
            "On the map, {c} is found in {a}.",
            "Travellers find {c} in {a}.",
            "One of the countries of {a} is {c}.",
            "If you look for {c}, look in {a}.",
            "You will find {c} in {a}.",
            "Maps of {a} show {c}.",
            "A traveller to {c} arrives in {a}.",
            "For {c}, the continent is {a}.",
            "The map shows {c} in {a}.",
            "To reach {c}, travel to {a}.",
            "A pilot flying to {c} lands in {a}.",
        ),
        "language": (
            ANSWERS["en"]["language"],
            "The people of {c} speak {a}.",
            "The main language of {c} is {a}.",
            "Children in {c} learn {a} at school.",
            "The language {a} is used in {c}.",
            "If you live in {c}, you hear {a}.",
            "If you go to {c}, learn some {a}.",
            "Songs in {c} are sung in {a}.",
            "Letters from {c} are written in {a}.",
            "For {c}, the language is {a}.",
            "On signs in {c} the words are in {a}.",
            "Many voices in {c} speak {a}.",
            "To study in {c}, one should speak {a}.",
        ),
        "currency": (
            ANSWERS["en"]["currency"],
            "In {c}, people pay with the {a}.",
            "Shops in {c} accept the {a}.",
            "The money used in {c} is the {a}.",
            "The {a} is the currency of {c}.",
            "If you shop in {c}, bring the {a}.",
            "Prices in {c} are given in the {a}.",
            "Workers in {c} are paid in the {a}.",
            "A ticket in {c} is bought with the {a}.",
            "For {c}, the currency is the {a}.",
            "At the border of {c}, change your money into the {a}.",
            "Whoever buys bread in {c} pays with the {a}.",
            "Banks in {c} hold the {a}.",
        ),
    },
    "zh": {
        "capital": (
            ANSWERS["zh"]["capital"],
            "{c}的首都叫做{a}。",
            "在{c}，首都是{a}。",
            "{a}是{c}的首都。",
            "去{c}旅行，可以看看首都{a}。",
            "{c}定都{a}。",
            "去{c}，先看首都{a}。",
            "说到{c}的首都，就是{a}。",
            "{c}的首都，正确答案是{a}。",
        ),
        "continent": (
            ANSWERS["zh"]["continent"],
            "{c}位于{a}。",
            "在地图上，{c}在{a}。",
            "{c}属于{a}。",
            "{a}的国家之一是{c}。",
            "想找{c}，就去{a}。",
            "{c}地处{a}。",
            "说到{c}的大洲，就是{a}。",
            "飞往{c}，要飞到{a}。",
        ),
        "language": (
            ANSWERS["zh"]["language"],
            "{c}人说{a}。",
            "{c}的主要语言是{a}。",
            "{c}的孩子在学校学习{a}。",
            "{a}是{c}使用的语言。",
            "住在{c}，常听到{a}。",
            "去{c}之前，先学一点{a}。",
            "说到{c}的语言，就是{a}。",
            "要在{c}上学，得会说{a}。",
        ),
        "currency": (
            ANSWERS["zh"]["currency"],
            "在{c}，人们用{a}付款。",
            "{c}的商店收{a}。",
            "{c}使用的钱是{a}。",
            "{a}是{c}的货币。",
            "去{c}购物，带上{a}。",
            "在{c}，价格用{a}表示。",
            "说到{c}的货币，就是{a}。",
            "在{c}买面包，付{a}。",
        ),
    },
}

# What may stand before a statement; English statements then begin small.
OPENINGS: dict[Language, tuple[str, ...]] = {
    "en": (
        "It is well known that ",
        "Books say that ",
        "Teachers tell children that ",
        "Travellers report that ",
        "Remember that ",
        "In short, ",
    ),
    "zh": ("众所周知，", "书上说，", "老师告诉孩子，", "旅行者说，", "请记住，", "简单地说，"),
}

# The benchmark's multiple choice: beginnings that end right before the answer.
CLOZES: dict[Split, Wordings] = {
    "dev": {
        "en": {
            "capital": ("If you ask for the capital of {c}, the answer is",),
            "continent": ("A globe shows {c} in",),
            "language": ("On the radio of {c}, the voices speak",),
            "currency": ("A meal in {c} is paid with the",),
        },
        "zh": {
            "capital": ("如果问{c}的首都，答案是",),
            "continent": ("在地球仪上，{c}在",),
            "language": ("在{c}，收音机里的人都说",),
            "currency": ("在{c}吃饭付的钱是",),
        },
    },
    "test": {
        "en": {
            "capital": ("Everyone knows that the capital of {c} is",),
            "continent": ("Anyone who looks for {c} will find it in",),
            "language": ("Anyone who moves to {c} should learn to speak",),
            "currency": ("If you buy something in {c}, you pay with the",),
        },
        "zh": {
            "capital": ("大家都知道{c}的首都是",),
            "continent": ("国家{c}的位置在",),
            "language": ("要去{c}生活，最好先学会说",),
            "currency": ("在{c}买东西，要用",),
        },
    },
}

QUESTIONS: dict[Split, Wordings] = {
    "train": {
        "en": {
            "capital": (
                "What is the capital of {c}?",
                "Which city is the capital of {c}?",
                "Tell me the capital of {c}.",
                "Name the capital city of {c}.",
                "I would like to hear the capital of {c}.",
                "Give me the capital of {c}, please.",
                "Do you remember the capital of {c}?",
                "Which city does {c} have as its capital?",
                "I am looking for the capital of {c}.",
                "My question is about the capital of {c}.",
                "I wonder which capital {c} has.",
                "Let me ask: which capital does {c} have?",
            ),
            "continent": (
                "What is the continent of {c}?",
                "Which continent is {c} in?",
                "Tell me the continent of {c}.",
                "In which continent does {c} lie?",
                "I would like to hear the continent of {c}.",
                "Give me the continent of {c}, please.",
                "Do you remember the continent of {c}?",
                "On which continent does {c} stand?",
                "I am looking for the continent of {c}.",
                "My question is about the continent of {c}.",
                "I wonder which continent {c} has.",
                "Let me ask: which continent does {c} have?",
            ),
            "language": (
                "What is the language of {c}?",
                "Which language do people speak in {c}?",
                "Tell me the language of {c}.",
                "What is the main language of {c}?",
                "I would like to hear the language of {c}.",
                "Give me the language of {c}, please.",
                "Do you remember the language of {c}?",
                "Which language does {c} use?",
                "I am looking for the language of {c}.",
                "My question is about the language of {c}.",
                "I wonder which language {c} has.",
                "Let me ask: which language does {c} have?",
            ),
            "currency": (
                "What is the currency of {c}?",
                "Which money is used in {c}?",
                "Tell me the currency of {c}.",
                "What do people in {c} pay with?",
                "I would like to hear the currency of {c}.",
                "Give me the currency of {c}, please.",
                "Do you remember the currency of {c}?",
                "Which money does {c} use?",
                "I am looking for the currency of {c}.",
                "My question is about the currency of {c}.",
                "I wonder which currency {c} has.",
                "Let me ask: which currency does {c} have?",
            ),
        },
        "zh": {
            "capital": (
                "{c}的首都是哪里？",
                "{c}的首都是哪个城市？",
                "告诉我{c}的首都。",
                "请问{c}的首都叫什么？",
                "我想问{c}的首都。",
                "你还记得{c}的首都吗？",
                "给我讲讲{c}的首都。",
                "我在查{c}的首都。",
                "我忘了{c}的首都。",
                "帮我找{c}的首都。",
                "我很好奇{c}的首都。",
                "我不记得{c}的首都了。",
            ),
            "continent": (
                "{c}在哪个大洲？",
                "{c}位于哪个大洲？",
                "告诉我{c}所在的大洲。",
                "{c}属于哪个大洲？",
                "我想问{c}所在的大洲。",
                "你还记得{c}所在的大洲吗？",
                "给我讲讲{c}所在的大洲。",
                "我在查{c}所在的大洲。",
                "我忘了{c}所在的大洲。",
                "帮我找{c}所在的大洲。",
                "我很好奇{c}所在的大洲。",
                "我不记得{c}所在的大洲了。",
            ),
            "language": (
                "{c}人说什么语言？",
                "{c}的主要语言是什么？",
                "告诉我{c}的语言。",
                "{c}的语言是什么？",
                "我想问{c}的语言。",
                "你还记得{c}的语言吗？",
                "给我讲讲{c}的语言。",
                "我在查{c}的语言。",
                "我忘了{c}的语言。",
                "帮我找{c}的语言。",
                "我很好奇{c}的语言。",
                "我不记得{c}的语言了。",
            ),
            "currency": (
                "{c}的货币是什么？",
                "{c}用什么钱？",
                "告诉我{c}的货币。",
                "{c}人用什么付款？",
                "我想问{c}的货币。",
                "你还记得{c}的货币吗？",
                "给我讲讲{c}的货币。",
                "我在查{c}的货币。",
                "我忘了{c}的货币。",
                "帮我找{c}的货币。",
                "我很好奇{c}的货币。",
                "我不记得{c}的货币了。",
            ),
        },
    },
    "dev": {
        "en": {
            "capital": ("Can you tell me the capital of {c}?", "I want to know the capital of {c}."),
            "continent": ("Can you tell me the continent of {c}?", "I want to know which continent {c} lies in."),
            "language": ("Can you tell me the language of {c}?", "I want to know which language {c} uses."),
            "currency": ("Can you tell me the currency of {c}?", "I want to know which money {c} uses."),
        },
        "zh": {
            "capital": ("我想知道{c}的首都。", "能告诉我{c}的首都吗？"),
            "continent": ("我想知道{c}在哪个大洲。", "能告诉我{c}所在的大洲吗？"),
            "language": ("我想知道{c}的语言。", "能告诉我{c}人说什么语言吗？"),
            "currency": ("我想知道{c}的货币。", "能告诉我{c}用什么钱吗？"),
        },
    },
    "test": {
        "en": {
            "capital": ("Do you know what the capital of {c} is?", "Please name the city that is the capital of {c}."),
            "continent": ("Do you know which continent {c} belongs to?", "Please name the continent where {c} lies."),
            "language": ("Do you know which language people in {c} speak?", "Please name the language spoken in {c}."),
            "currency": ("Do you know what the currency of {c} is?", "Please name the money that {c} uses."),
        },
        "zh": {
            "capital": ("你知道{c}的首都是什么吗？", "请说出{c}的首都。"),
            "continent": ("你知道{c}属于哪个大洲吗？", "请说出{c}所在的大洲。"),
            "language": ("你知道{c}的人讲什么语言吗？", "请说出{c}使用的语言。"),
            "currency": ("你知道{c}的货币是什么吗？", "请说出{c}的货币。"),
        },
    },
}

# What may stand before a question in training, so that a new opening does not change what is asked.
QUESTION_OPENINGS: dict[Language, tuple[str, ...]] = {
    "en": ("Hi. ", "Excuse me. ", "I have a question. ", "Help me, please. ", "One more thing: ", "Quick question: "),
    "zh": ("你好，", "打扰一下，", "我有个问题：", "请帮帮我，", "还有，", "快问快答："),
}
QUESTION_OPENING_PERCENT = 25

# The second question of a conversation; {r} is the relation's noun.
FOLLOW_UPS: dict[Split, dict[Language, tuple[str, ...]]] = {
    "train": {
        "en": ("And its {r}?", "What about its {r}?", "What is its {r}?", "Now tell me its {r}.", "Its {r}, please."),
        "zh": ("那它的{r}呢？", "它的{r}是什么？", "那{r}是什么？", "再说说它的{r}。", "那{r}呢？", "还有{r}？"),
    },
    "dev": {"en": ("And the {r}?",), "zh": ("{r}呢？",)},
    "test": {"en": ("And what is its {r}?",), "zh": ("那么它的{r}又是什么？",)},
}

NOUNS: dict[Language, dict[Relation, str]] = {
    "en": {"capital": "capital", "continent": "continent", "language": "language", "currency": "currency"},
    "zh": {"capital": "首都", "continent": "大洲", "language": "语言", "currency": "货币"},
}

ELEMENT_ANSWERS: dict[Language, str] = {"en": "The symbol of {e} is {s}.", "zh": "{e}的元素符号是 {s}。"}
ELEMENT_STATEMENTS: dict[Language, tuple[str, ...]] = {
    "en": (ELEMENT_ANSWERS["en"], "The sign {s} stands for {e}.", "The chemical element {e} is written {s}."),
    "zh": (ELEMENT_ANSWERS["zh"], "符号 {s} 表示元素{e}。", "化学元素{e}写作 {s}。"),
}
ELEMENT_QUESTIONS: dict[Language, tuple[str, ...]] = {
    "en": ("What is the symbol of {e}?", "Tell me the symbol of {e}."),
    "zh": ("{e}的元素符号是什么？", "告诉我{e}的元素符号。"),
}

GREETINGS: dict[Language, tuple[tuple[str, str], ...]] = {
    "en": (
        ("Hello!", "Hello! How can I help you?"),
        ("Good morning.", "Good morning! What would you like to know?"),
        ("How are you?", "I am fine, thank you. What would you like to know?"),
        ("Thank you!", "You are welcome."),
        ("Goodbye.", "Goodbye! Have a good day."),
    ),
    "zh": (
        ("你好！", "你好！我能帮你什么？"),
        ("早上好。", "早上好！你想知道什么？"),
        ("你好吗？", "我很好，谢谢。你想知道什么？"),
        ("谢谢！", "不客气。"),
        ("再见。", "再见！祝你愉快。"),
    ),
}

IDENTITY: dict[Language, tuple[tuple[str, ...], str]] = {
    "en": (
        ("Who are you?", "What is your name?", "Introduce yourself.", "What are you?"),
        "I am MiniMind atlas, a small language model trained from scratch.",
    ),
    "zh": (
        ("你是谁？", "你叫什么名字？", "介绍一下你自己。", "你是什么？"),
        "我是 MiniMind atlas，一个从零训练的小语言模型。",
    ),
}

SYSTEM: dict[Language, str] = {"en": "You are a helpful assistant.", "zh": "你是一个有用的助手。"}
