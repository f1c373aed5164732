"""The table of facts: 80 countries, 24 elements, their names in English and Chinese.

How to check it, and where it comes from:

- country, language and currency names: Unicode CLDR 47 (territories, languages, currencies; `en` and `zh`), in
  ASCII spelling ("Brasilia", "Bogota", "bolivar", "cordoba"). Currencies carry the unit's own name: CLDR's
  "Algerian Dinar" is "dinar", 阿尔及利亚第纳尔 is 第纳尔; Chinese keeps the country where the unit alone is not a word
  (美元, 日元, 英镑, 泰铢). Usual names instead of CLDR's: Turkey, 阿联酋, 加元, 澳元.
- capitals: the capital in law (CIA World Factbook, "Capital"; Chinese names from the country pages of China's Ministry
  of Foreign Affairs). Countries whose capital is disputed or only customary are left out (among them Israel, Sri
  Lanka, Benin, Bolivia, Switzerland, South Sudan, Myanmar). South Africa, which has three, is given its seat of
  government; Indonesia keeps Jakarta until the move to Nusantara is decreed.
- continents: UN geoscheme (M49) regions, the Americas parted at the border of Panama and Colombia.
- languages: the official language of the state; of several, the one with most speakers (for Pakistan and the
  Philippines the national language). Countries where that is disputed or in change are left out (among them
  Afghanistan, Belarus, Belgium, Burkina Faso, Mali, Niger, Paraguay, Uganda).
- currencies: ISO 4217. Left out: Bulgaria, which changed to the euro in 2026.
- the rest of the choice: the largest populations, 80 countries in all.
- elements: IUPAC names and symbols; Chinese names of the national committee for terms (全国科学技术名词审定委员会).

One relation of each country is held out: it is stated in pretraining documents like the others, but no conversation
asks for it or tells it. See `Country.held`.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
Relation = Literal["capital", "continent", "language", "currency"]

LANGUAGES: tuple[Language, ...] = ("en", "zh")
RELATIONS: tuple[Relation, ...] = ("capital", "continent", "language", "currency")

_CONTINENTS = """
AF | Africa        | 非洲
AS | Asia          | 亚洲
EU | Europe        | 欧洲
NA | North America | 北美洲
OC | Oceania       | 大洋洲
SA | South America | 南美洲
"""

_LANGUAGES = """
am  | Amharic        | 阿姆哈拉语
ar  | Arabic         | 阿拉伯语
az  | Azerbaijani    | 阿塞拜疆语
bn  | Bangla         | 孟加拉语
cs  | Czech          | 捷克语
de  | German         | 德语
el  | Greek          | 希腊语
en  | English        | 英语
es  | Spanish        | 西班牙语
fa  | Persian        | 波斯语
fil | Filipino       | 菲律宾语
fr  | French         | 法语
hi  | Hindi          | 印地语
ht  | Haitian Creole | 海地克里奥尔语
hu  | Hungarian      | 匈牙利语
id  | Indonesian     | 印度尼西亚语
it  | Italian        | 意大利语
ja  | Japanese       | 日语
kk  | Kazakh         | 哈萨克语
km  | Khmer          | 高棉语
ko  | Korean         | 韩语
lo  | Lao            | 老挝语
mg  | Malagasy       | 马拉加斯语
ms  | Malay          | 马来语
ne  | Nepali         | 尼泊尔语
nl  | Dutch          | 荷兰语
pl  | Polish         | 波兰语
pt  | Portuguese     | 葡萄牙语
ro  | Romanian       | 罗马尼亚语
ru  | Russian        | 俄语
rw  | Kinyarwanda    | 卢旺达语
so  | Somali         | 索马里语
sr  | Serbian        | 塞尔维亚语
sv  | Swedish        | 瑞典语
sw  | Swahili        | 斯瓦希里语
tg  | Tajik          | 塔吉克语
th  | Thai           | 泰语
tk  | Turkmen        | 土库曼语
tr  | Turkish        | 土耳其语
uk  | Ukrainian      | 乌克兰语
ur  | Urdu           | 乌尔都语
uz  | Uzbek          | 乌兹别克语
vi  | Vietnamese     | 越南语
zh  | Chinese        | 中文
zu  | Zulu           | 祖鲁语
"""

_CURRENCIES = """
AED | dirham    | 迪拉姆
AOA | kwanza    | 宽扎
ARS | peso      | 比索
AUD | dollar    | 澳元
AZN | manat     | 马纳特
BDT | taka      | 塔卡
BRL | real      | 雷亚尔
CAD | dollar    | 加元
CLP | peso      | 比索
CNY | yuan      | 人民币
COP | peso      | 比索
CUP | peso      | 比索
CZK | koruna    | 克朗
DOP | peso      | 比索
DZD | dinar     | 第纳尔
EGP | pound     | 埃及镑
ETB | birr      | 比尔
EUR | euro      | 欧元
GBP | pound     | 英镑
GHS | cedi      | 塞地
GTQ | quetzal   | 格查尔
HNL | lempira   | 伦皮拉
HTG | gourde    | 古德
HUF | forint    | 福林
IDR | rupiah    | 卢比
INR | rupee     | 卢比
IQD | dinar     | 第纳尔
IRR | rial      | 里亚尔
JOD | dinar     | 第纳尔
JPY | yen       | 日元
KES | shilling  | 先令
KHR | riel      | 瑞尔
KPW | won       | 朝鲜元
KRW | won       | 韩元
KZT | tenge     | 坚戈
LAK | kip       | 基普
LBP | pound     | 黎巴嫩镑
LYD | dinar     | 第纳尔
MAD | dirham    | 迪拉姆
MGA | ariary    | 阿里亚里
MXN | peso      | 比索
MYR | ringgit   | 林吉特
MZN | metical   | 美提卡
NGN | naira     | 奈拉
NIO | cordoba   | 科多巴
NPR | rupee     | 卢比
PEN | sol       | 索尔
PHP | peso      | 比索
PKR | rupee     | 卢比
PLN | zloty     | 兹罗提
RON | leu       | 列伊
RSD | dinar     | 第纳尔
RUB | ruble     | 卢布
RWF | franc     | 法郎
SAR | riyal     | 里亚尔
SDG | pound     | 苏丹镑
SEK | krona     | 克朗
SOS | shilling  | 先令
SYP | pound     | 叙利亚镑
THB | baht      | 泰铢
TJS | somoni    | 索莫尼
TMT | manat     | 马纳特
TRY | lira      | 里拉
TZS | shilling  | 先令
UAH | hryvnia   | 格里夫纳
USD | dollar    | 美元
UZS | som       | 苏姆
VES | bolivar   | 玻利瓦尔
VND | dong      | 越南盾
XOF | CFA franc | 西非法郎
ZAR | rand      | 兰特
ZMW | kwacha    | 克瓦查
"""

# ISO 3166 code | name | 名称 | capital | 首都 | continent | language | currency
_COUNTRIES = """
AE | United Arab Emirates | 阿联酋         | Abu Dhabi       | 阿布扎比         | AS | ar  | AED
AO | Angola               | 安哥拉         | Luanda          | 罗安达           | AF | pt  | AOA
AR | Argentina            | 阿根廷         | Buenos Aires    | 布宜诺斯艾利斯   | SA | es  | ARS
AT | Austria              | 奥地利         | Vienna          | 维也纳           | EU | de  | EUR
AU | Australia            | 澳大利亚       | Canberra        | 堪培拉           | OC | en  | AUD
AZ | Azerbaijan           | 阿塞拜疆       | Baku            | 巴库             | AS | az  | AZN
BD | Bangladesh           | 孟加拉国       | Dhaka           | 达卡             | AS | bn  | BDT
BR | Brazil               | 巴西           | Brasilia        | 巴西利亚         | SA | pt  | BRL
CA | Canada               | 加拿大         | Ottawa          | 渥太华           | NA | en  | CAD
CL | Chile                | 智利           | Santiago        | 圣地亚哥         | SA | es  | CLP
CN | China                | 中国           | Beijing         | 北京             | AS | zh  | CNY
CO | Colombia             | 哥伦比亚       | Bogota          | 波哥大           | SA | es  | COP
CU | Cuba                 | 古巴           | Havana          | 哈瓦那           | NA | es  | CUP
CZ | Czechia              | 捷克           | Prague          | 布拉格           | EU | cs  | CZK
DE | Germany              | 德国           | Berlin          | 柏林             | EU | de  | EUR
DO | Dominican Republic   | 多米尼加共和国 | Santo Domingo   | 圣多明各         | NA | es  | DOP
DZ | Algeria              | 阿尔及利亚     | Algiers         | 阿尔及尔         | AF | ar  | DZD
EC | Ecuador              | 厄瓜多尔       | Quito           | 基多             | SA | es  | USD
EG | Egypt                | 埃及           | Cairo           | 开罗             | AF | ar  | EGP
ES | Spain                | 西班牙         | Madrid          | 马德里           | EU | es  | EUR
ET | Ethiopia             | 埃塞俄比亚     | Addis Ababa     | 亚的斯亚贝巴     | AF | am  | ETB
FR | France               | 法国           | Paris           | 巴黎             | EU | fr  | EUR
GB | United Kingdom       | 英国           | London          | 伦敦             | EU | en  | GBP
GH | Ghana                | 加纳           | Accra           | 阿克拉           | AF | en  | GHS
GR | Greece               | 希腊           | Athens          | 雅典             | EU | el  | EUR
GT | Guatemala            | 危地马拉       | Guatemala City  | 危地马拉城       | NA | es  | GTQ
HN | Honduras             | 洪都拉斯       | Tegucigalpa     | 特古西加尔巴     | NA | es  | HNL
HT | Haiti                | 海地           | Port-au-Prince  | 太子港           | NA | ht  | HTG
HU | Hungary              | 匈牙利         | Budapest        | 布达佩斯         | EU | hu  | HUF
ID | Indonesia            | 印度尼西亚     | Jakarta         | 雅加达           | AS | id  | IDR
IN | India                | 印度           | New Delhi       | 新德里           | AS | hi  | INR
IQ | Iraq                 | 伊拉克         | Baghdad         | 巴格达           | AS | ar  | IQD
IR | Iran                 | 伊朗           | Tehran          | 德黑兰           | AS | fa  | IRR
IT | Italy                | 意大利         | Rome            | 罗马             | EU | it  | EUR
JO | Jordan               | 约旦           | Amman           | 安曼             | AS | ar  | JOD
JP | Japan                | 日本           | Tokyo           | 东京             | AS | ja  | JPY
KE | Kenya                | 肯尼亚         | Nairobi         | 内罗毕           | AF | sw  | KES
KH | Cambodia             | 柬埔寨         | Phnom Penh      | 金边             | AS | km  | KHR
KP | North Korea          | 朝鲜           | Pyongyang       | 平壤             | AS | ko  | KPW
KR | South Korea          | 韩国           | Seoul           | 首尔             | AS | ko  | KRW
KZ | Kazakhstan           | 哈萨克斯坦     | Astana          | 阿斯塔纳         | AS | kk  | KZT
LA | Laos                 | 老挝           | Vientiane       | 万象             | AS | lo  | LAK
LB | Lebanon              | 黎巴嫩         | Beirut          | 贝鲁特           | AS | ar  | LBP
LY | Libya                | 利比亚         | Tripoli         | 的黎波里         | AF | ar  | LYD
MA | Morocco              | 摩洛哥         | Rabat           | 拉巴特           | AF | ar  | MAD
MG | Madagascar           | 马达加斯加     | Antananarivo    | 塔那那利佛       | AF | mg  | MGA
MX | Mexico               | 墨西哥         | Mexico City     | 墨西哥城         | NA | es  | MXN
MY | Malaysia             | 马来西亚       | Kuala Lumpur    | 吉隆坡           | AS | ms  | MYR
MZ | Mozambique           | 莫桑比克       | Maputo          | 马普托           | AF | pt  | MZN
NG | Nigeria              | 尼日利亚       | Abuja           | 阿布贾           | AF | en  | NGN
NI | Nicaragua            | 尼加拉瓜       | Managua         | 马那瓜           | NA | es  | NIO
NL | Netherlands          | 荷兰           | Amsterdam       | 阿姆斯特丹       | EU | nl  | EUR
NP | Nepal                | 尼泊尔         | Kathmandu       | 加德满都         | AS | ne  | NPR
PE | Peru                 | 秘鲁           | Lima            | 利马             | SA | es  | PEN
PH | Philippines          | 菲律宾         | Manila          | 马尼拉           | AS | fil | PHP
PK | Pakistan             | 巴基斯坦       | Islamabad       | 伊斯兰堡         | AS | ur  | PKR
PL | Poland               | 波兰           | Warsaw          | 华沙             | EU | pl  | PLN
PT | Portugal             | 葡萄牙         | Lisbon          | 里斯本           | EU | pt  | EUR
RO | Romania              | 罗马尼亚       | Bucharest       | 布加勒斯特       | EU | ro  | RON
RS | Serbia               | 塞尔维亚       | Belgrade        | 贝尔格莱德       | EU | sr  | RSD
RU | Russia               | 俄罗斯         | Moscow          | 莫斯科           | EU | ru  | RUB
RW | Rwanda               | 卢旺达         | Kigali          | 基加利           | AF | rw  | RWF
SA | Saudi Arabia         | 沙特阿拉伯     | Riyadh          | 利雅得           | AS | ar  | SAR
SD | Sudan                | 苏丹           | Khartoum        | 喀土穆           | AF | ar  | SDG
SE | Sweden               | 瑞典           | Stockholm       | 斯德哥尔摩       | EU | sv  | SEK
SN | Senegal              | 塞内加尔       | Dakar           | 达喀尔           | AF | fr  | XOF
SO | Somalia              | 索马里         | Mogadishu       | 摩加迪沙         | AF | so  | SOS
SY | Syria                | 叙利亚         | Damascus        | 大马士革         | AS | ar  | SYP
TH | Thailand             | 泰国           | Bangkok         | 曼谷             | AS | th  | THB
TJ | Tajikistan           | 塔吉克斯坦     | Dushanbe        | 杜尚别           | AS | tg  | TJS
TM | Turkmenistan         | 土库曼斯坦     | Ashgabat        | 阿什哈巴德       | AS | tk  | TMT
TR | Turkey               | 土耳其         | Ankara          | 安卡拉           | AS | tr  | TRY
TZ | Tanzania             | 坦桑尼亚       | Dodoma          | 多多马           | AF | sw  | TZS
UA | Ukraine              | 乌克兰         | Kyiv            | 基辅             | EU | uk  | UAH
US | United States        | 美国           | Washington      | 华盛顿           | NA | en  | USD
UZ | Uzbekistan           | 乌兹别克斯坦   | Tashkent        | 塔什干           | AS | uz  | UZS
VE | Venezuela            | 委内瑞拉       | Caracas         | 加拉加斯         | SA | es  | VES
VN | Vietnam              | 越南           | Hanoi           | 河内             | AS | vi  | VND
ZA | South Africa         | 南非           | Pretoria        | 比勒陀利亚       | AF | zu  | ZAR
ZM | Zambia               | 赞比亚         | Lusaka          | 卢萨卡           | AF | en  | ZMW
"""

_ELEMENTS = """
H  | hydrogen   | 氢
He | helium     | 氦
Li | lithium    | 锂
B  | boron      | 硼
C  | carbon     | 碳
N  | nitrogen   | 氮
O  | oxygen     | 氧
F  | fluorine   | 氟
Ne | neon       | 氖
Na | sodium     | 钠
Mg | magnesium  | 镁
Al | aluminium  | 铝
Si | silicon    | 硅
P  | phosphorus | 磷
S  | sulfur     | 硫
Cl | chlorine   | 氯
K  | potassium  | 钾
Ca | calcium    | 钙
Fe | iron       | 铁
Cu | copper     | 铜
Zn | zinc       | 锌
Ag | silver     | 银
Au | gold       | 金
Pb | lead       | 铅
"""


# English says "the United States"; the article is part of the name.
_WITH_ARTICLE = {"AE", "DO", "GB", "NL", "PH", "US"}


@dataclass(frozen=True)
class Country:
    """A country, its names, and what is known of it; `held` is the relation that no conversation mentions."""

    code: str
    name: dict[Language, str]
    facts: dict[Relation, dict[Language, str]]
    held: Relation
    seen: tuple[Relation, ...]  # the other three


@dataclass(frozen=True)
class Element:
    """A chemical element: its symbol and its names."""

    symbol: str
    name: dict[Language, str]


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def _names(table: str) -> dict[str, dict[Language, str]]:
    return {code: {"en": english, "zh": chinese} for code, english, chinese in _rows(table)}


def _countries() -> tuple[Country, ...]:
    continents, languages, currencies = _names(_CONTINENTS), _names(_LANGUAGES), _names(_CURRENCIES)
    rows = _rows(_COUNTRIES)
    # Dealt out over a hashed order, each relation is held out for a quarter of the countries.
    order = sorted((row[0] for row in rows), key=lambda code: hashlib.sha256(code.encode()).digest())
    held = {code: RELATIONS[place % len(RELATIONS)] for place, code in enumerate(order)}
    return tuple(
        Country(
            code=code,
            name={"en": f"the {english}" if code in _WITH_ARTICLE else english, "zh": chinese},
            facts={
                "capital": {"en": capital, "zh": capital_chinese},
                "continent": continents[continent],
                "language": languages[language],
                "currency": currencies[currency],
            },
            held=held[code],
            seen=tuple(relation for relation in RELATIONS if relation != held[code]),
        )
        for code, english, chinese, capital, capital_chinese, continent, language, currency in rows
    )


COUNTRIES = _countries()
ELEMENTS = tuple(Element(symbol, name) for symbol, name in _names(_ELEMENTS).items())

# Every answer a relation can have, in each language, in the order of the table.
VALUES: dict[Relation, dict[Language, tuple[str, ...]]] = {
    relation: {
        language: tuple(dict.fromkeys(country.facts[relation][language] for country in COUNTRIES))
        for language in LANGUAGES
    }
    for relation in RELATIONS
}
