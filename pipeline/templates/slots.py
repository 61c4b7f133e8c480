"""The numbers of one entry (``slots``), and the program that writes them into templates, as tables.

``slots`` int64: ENTRY_SLOTS, then an ENTRY_LEG for each leg; a template names a leg's slots relative to the leg that it
is written for. Behind them, in the same array, lie the books of both legs. The program (``TemplateTable.freeze``):
PROGRAM, the TEMPLATE_ROWs of the encoder, a pair of words for each template (its first operation, and the one behind
its last), then a TEMPLATE_OP for each operation.
"""

from __future__ import annotations

from shm.declare import Table, real, rows_of, word

EXECUTOR = "executor"  # who writes all of it
LEGS = 2

# --- kinds of operations ---
OP_TEXT = 0
OP_INT64 = 1
OP_FLOAT64 = 2
OP_DECIMAL = 3
OP_DECIMAL_STR = 4
OP_INTEGER = 5
OP_ID = 6
OP_MARK = 7
OP_GAP = 8
OP_CUT = 9
OP_TEXT_FRAME = 10


class OrderSpan(Table, writer=EXECUTOR):
    """Where one order's bytes lie, counted from the order's first byte.

    | size | sign_from | sign_to | signature |
    """

    size = word("of the order", unit="bytes")
    sign_from = word("first byte of what is signed")
    sign_to = word("byte behind it")
    signature = word("where the signature is written")


ORDER_SPAN = OrderSpan()

# --- why an order was not given to its socket ---
GIVEN = 0
NOT_TRIED = 1
EXPIRED = 2
FIRST_FORBIDDEN = 3
SECOND_FORBIDDEN = 4
BOOKS_TOO_OLD = 5


class Launch(Table, writer=EXECUTOR):
    """What became of one order's bytes.

    | stop | taken | looked_mono_ns | sent_mono_ns | start | size |
    """

    stop = word(
        "why they were not given to the socket",
        codes={
            GIVEN: "they were",
            NOT_TRIED: "not this kernel's turn",
            EXPIRED: "the venue would refuse them by now",
            FIRST_FORBIDDEN: "lease, halt or a block forbids the first leg",
            SECOND_FORBIDDEN: "lease, halt or a block forbids the second leg",
            BOOKS_TOO_OLD: "proved too long ago, or too far apart",
        },
    )
    taken = word("bytes that the socket took; below 0: the error's number, negative")
    looked_mono_ns = word("when everything was looked at for the last time")
    sent_mono_ns = word("when the socket had answered")
    start = word("first byte for the socket, in the orders' memory")
    size = word("from there on", unit="bytes")


LAUNCH = Launch()


class EntrySlots(Table, words=32, writer=EXECUTOR):
    """Numbers of an entry that belong to no leg.

    line 0    | operation | opportunity | type | edge_detect_bps | edge_send_bps | direction | trigger_mono_ns |
              | detect_mono_ns |
    line 1..3 | dequeued_mono_ns | gate_mono_ns | expiry_wall_ms | largest_leg | orders: 2 ORDER_SPAN ... |
              | launches: 2 LAUNCH ... |
    """

    operation = word("counter of the operation's id")
    opportunity = word("id of the opportunity")
    type = word("OpportunityType")
    edge_detect_bps = real("edge at detection")
    edge_send_bps = real("edge on the books at the moment of sending")
    direction = word("direction key")
    trigger_mono_ns = word("when the update that led to it was received")
    detect_mono_ns = word("when it was detected")
    dequeued_mono_ns = word("when the executor took it")
    gate_mono_ns = word("when it was approved")
    expiry_wall_ms = word("until when the venues may take the orders", unit="ms since 1970")
    largest_leg = word("leg whose notional is the operation's: 0 or 1")
    orders = rows_of(ORDER_SPAN, LEGS, "of both orders")
    launches = rows_of(LAUNCH, LEGS, "of both orders")


ENTRY_SLOTS = EntrySlots()


class EntryLeg(Table, words=32, writer=EXECUTOR):
    """Numbers of one leg of an entry.

    line 0    | instrument | side | lots | ticks | best_fp | book_seq | update_id | proof_mono_ns |
    line 1    | recv_mono_ns | notional | venue | client | now_ms | now_s | expiry_ms | number |
    line 2..3 | sign_from | sign_to | signature | mask | 0[12] |
    """

    instrument = word("instrument id")
    side = word("1 = buy, -1 = sell")
    lots = word("quantity", unit="lots")
    ticks = word("limit price", unit="ticks")
    best_fp = word("best price of the book", unit="quote per base, 10^-price_exp")
    book_seq = word("publication number of the book")
    update_id = word("the venue's number of the book's newest update")
    proof_mono_ns = word("when the book was proved last")
    recv_mono_ns = word("when the book's newest update was received")
    notional = word("lots x ticks in the digits of their factors")
    venue = word("venue id")
    client = word("counter of the client order id")
    now_ms = word("the venue's clock", unit="ms since 1970")
    now_s = word("the same", unit="s since 1970")
    expiry_ms = word("until when the venue may take the order, on its clock", unit="ms since 1970")
    number = word("0 or 1")
    sign_from = word("first byte of what is signed, in the output")
    sign_to = word("byte behind it, in the output")
    signature = word("where the signature is written, in the output")
    mask = word("key of the mask over a text frame, 32 bits, drawn at random for each entry")


ENTRY_LEG = EntryLeg()


class Program(Table, words=2, writer=EXECUTOR):
    """Where the sections of a program begin.

    | spans_off | ops_off |
    """

    spans_off = word("first and last operation of each template, two words each")
    ops_off = word("TEMPLATE_OP rows")


PROGRAM = Program()


class TemplateOp(Table, writer=EXECUTOR):
    """One operation of a template: what is written next.

    | kind | slot | factor | digits |
    """

    kind = word(
        "what is written",
        codes={
            OP_TEXT: "ready bytes",
            OP_INT64: "msgpack int64",
            OP_FLOAT64: "msgpack float64",
            OP_DECIMAL: "text of a decimal",
            OP_DECIMAL_STR: "msgpack string of a decimal",
            OP_INTEGER: "text of a whole number",
            OP_ID: "prefix and base 36",
            OP_MARK: "nothing: the slot takes the place",
            OP_GAP: "nothing: bytes left out",
            OP_CUT: "never compiled",
            OP_TEXT_FRAME: "nothing: says that the order is a text frame",
        },
    )
    slot = word("slot of the number; of ready bytes their place in the pool")
    factor = word("what the number is multiplied with; size of ready bytes and of gaps; an id's prefix in the pool")
    digits = word("behind the point; size of an id's prefix")


TEMPLATE_OP = TemplateOp()


class TemplateRow(Table, words=8, writer=EXECUTOR):
    """Numbers of the templates of one instrument and side.

    | pair | leg | intent | notional | order | pads | framed | 0 |
    """

    pair = word("the pair, before the legs of the operation's record")
    leg = word("one leg of the operation's record")
    intent = word("the order's intent")
    notional = word("the operation's notional, where this leg is the larger one")
    order = word("the venue's order")
    pads = word("of the key that signs the order, in the pool; 0 = nothing here signs it")
    framed = word("1 = the order is a text frame")


TEMPLATE_ROW = TemplateRow()
