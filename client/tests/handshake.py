# The other side of a handshake, with PyPI's spake2: says its message, reads ours, says its proof, and checks ours.
# The key schedule is written down here once more, by hand.
import hashlib, hmac, sys
import spake2

side, password = sys.argv[1], sys.argv[2].encode()
names = {"sender": spake2.SPAKE2_A, "receiver": spake2.SPAKE2_B}
state = names[side](password, idA=b"idontstore send 1", idB=b"idontstore receive 1")
ours = state.start()
print(ours.hex(), flush=True)
theirs = bytes.fromhex(sys.stdin.readline())
key = state.finish(theirs)


def derive(purpose):
    extracted = hmac.digest(b"idontstore 1", key, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")


def proof(of):
    transcript = ours + theirs if side == "sender" else theirs + ours
    return hmac.digest(derive(b"proof of the " + of.encode()), transcript, "sha256")


print(proof(side).hex(), flush=True)
peer = "receiver" if side == "sender" else "sender"
print(proof(peer).hex() == sys.stdin.readline().strip(), flush=True)
