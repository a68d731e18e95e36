"""The frames of protocol version 1, as its first releases sent them: never changed.

A frame that differs today is a change of the wire: older clients and workers meet it.
Where that is meant (a field was appended), the new frames stand beside these.
"""

__all__ = ["FRAMES", "FROM_CLIENT", "FROM_WORKER"]

# A handshake: Hello and Proof, Hello and Welcome. Nonces, token and channel: cores.py.
FROM_CLIENT = [
    bytes.fromhex(
        "97010101b06d6c65706f6f6c203120636c69656e74a0c4200001020304050607"
        "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f90"
    ),
    bytes.fromhex(
        "9402a0c4207b6b92dc4536922618e0016784057d207101628157ad086bb5f01255fe003eab90"
    ),
]

FROM_WORKER = [
    bytes.fromhex(
        "97010101b06d6c65706f6f6c203120776f726b6572ab66696e6765727072696e"
        "74c420202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c"
        "3d3e3f90"
    ),
    bytes.fromhex(
        "9603c420ae8fd814ccaecaadee7403ca28b3d196472540a9bc0a3838b677a0bf"
        "c95c41b7a46770753191c381a26f73a56c696e7578c400"
    ),
]

# One of each kind, by name: what cores.py has as EACH_MESSAGE.
FRAMES = {
    "Hello": bytes.fromhex(
        "97010101ab6d6c65706f6f6c20312e32a36b6579c42000010203040506070809"
        "0a0b0c0d0e0f101112131415161718191a1b1c1d1e1f92a161a162"
    ),
    "Proof": bytes.fromhex(
        "9402b030313233343536373839616263646566c4200000000000000000000000"
        "00000000000000000000000000000000000000000091c4200000000000000000"
        "000000000000000000000000000000000000000000000000"
    ),
    "Welcome": bytes.fromhex(
        "9603c42000000000000000000000000000000000000000000000000000000000"
        "00000000a46770753191c381a26f73a56c696e7578c420000000000000000000"
        "0000000000000000000000000000000000000000000000"
    ),
    "Bye": bytes.fromhex("9304a6636c6f736564a774686520656e64"),
    "Ping": bytes.fromhex("920507"),
    "Pong": bytes.fromhex("920608"),
    "Request": bytes.fromhex(
        "9b0701a26964a372756e81a7636f6d6d616e64a474727565ce00010000cb4004"
        "000000000000c300cb0000000000000000a0"
    ),
    "Accepted": bytes.fromhex("9708010acb3ff8000000000000a474727565c200"),
    "Ended": bytes.fromhex(
        "9309019ca953554343454544454400000000a0c0c0cb0000000000000000cb00"
        "00000000000000a000"
    ),
    "Credit": bytes.fromhex("930a01cd1000"),
    "Attach": bytes.fromhex("960b02a269640ace00010000c2"),
    "Leave": bytes.fromhex("920c01"),
    "Skip": bytes.fromhex("930e01cd01f4"),
    "Look": bytes.fromhex("920f01"),
    "Seen": bytes.fromhex("931001cd01f4"),
    "Event": bytes.fromhex(
        "930dac73746174652d6368616e676581a46c6f61649501cb4004000000000000"
        "c0c3c4056279746573"
    ),
}
