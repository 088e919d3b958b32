//! Caps on how fast a sender is read from: by transfer, by its address, by the network around it.
//!
//! `upload` asks how many bytes may be read now, or when some may be, and tells how many were. Each cap gives out
//! portions: one ahead at most for each transfer, and none longer than its body. The unread rest of a portion stays
//! the transfer's. A transfer that the configuration does not cap has no [`Bandwidth`].

use super::Env;
use crate::session::Limited;
use shm::Rate;
use std::net::IpAddr;
use std::num::NonZeroU64;

const MS_NS: u64 = 1_000_000;

/// The caps of one transfer: at least one.
#[derive(Debug)]
pub(super) struct Bandwidth {
    caps: Vec<Cap>,
}

#[derive(Debug)]
struct Cap {
    rate: Rate,
    whose: Whose,
    /// Bytes that may be read once `starts_ns` has come.
    portion: u64,
    starts_ns: u64,
}

/// The party that a cap is for.
#[derive(Debug)]
enum Whose {
    /// This transfer. Its bandwidth is reserved up to this time.
    Transfer(u64),
    /// All that the address or network with this digest sends.
    Address(u64),
}

impl Bandwidth {
    /// The caps on what `client` sends. `None`: there are none.
    pub(super) fn of(env: &Env, client: IpAddr) -> Option<Box<Self>> {
        let limits = &env.config.limits;
        let mut caps = Vec::new();
        if let Some(rate) = limits.rate_bytes_max {
            caps.push(Cap::new(rate, Whose::Transfer(0)));
        }
        if let Some(rate) = limits.rate_bytes_per_address_max {
            let digest = env.addresses.limited(Limited::Bandwidth, client);
            caps.push(Cap::new(rate, Whose::Address(digest)));
            if let Some(wide) = env.addresses.limited_widely(Limited::Bandwidth, client) {
                let factor = limits.wide_network_factor.into();
                let rate = NonZeroU64::new(rate.get().saturating_mul(factor)).unwrap_or(rate);
                caps.push(Cap::new(rate, Whose::Address(wide)));
            }
        }
        (!caps.is_empty()).then(|| Box::new(Self { caps }))
    }

    /// The number of bytes that may be read now, at least one; or the time in milliseconds at which to ask again. The
    /// body has `left` bytes left at most.
    pub(super) fn allowance(&mut self, env: &Env, left: u64, now_ms: u64) -> Result<usize, u64> {
        let now_ns = now_ms.saturating_mul(MS_NS);
        let (mut bytes, mut starts_ns) = (u64::MAX, 0);
        for cap in &mut self.caps {
            if cap.portion == 0 {
                cap.reserve(env, left.max(1), now_ns);
            }
            bytes = bytes.min(cap.portion);
            starts_ns = starts_ns.max(cap.starts_ns);
        }
        // The clock is read in whole milliseconds.
        let starts_ms = starts_ns / MS_NS;
        if starts_ms > now_ms {
            return Err(starts_ms);
        }
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Counts `bytes` as read.
    pub(super) fn spend(&mut self, bytes: u64) {
        for cap in &mut self.caps {
            cap.portion = cap.portion.saturating_sub(bytes);
        }
    }
}

impl Cap {
    fn new(bytes_per_second: NonZeroU64, whose: Whose) -> Self {
        Self { rate: Rate::new(bytes_per_second), whose, portion: 0, starts_ns: 0 }
    }

    fn reserve(&mut self, env: &Env, left: u64, now_ns: u64) {
        self.portion = self.rate.portion_bytes().min(left);
        self.starts_ns = match &mut self.whose {
            Whose::Transfer(spoken_for_ns) => {
                let (starts_ns, next) = self.rate.reserve(self.portion, *spoken_for_ns, now_ns);
                *spoken_for_ns = next;
                starts_ns
            }
            Whose::Address(digest) => {
                env.segment.bandwidth().reserve(*digest, self.rate, self.portion, now_ns)
            }
        };
    }
}
