//! When which version encrypted, against the policy.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{Lane, Period};
use crate::env::Timestamp;
use crate::key::KeyName;
use crate::policy::{self, Policy};
use crate::store::KeyEntry;

/// How much longer than the policy says a version may have encrypted: whoever rotates looks at the clock now
/// and then.
const GRACE: Duration = Duration::from_secs(86_400);

/// The life of each of `keys` that rotates, and of each series of a MySQL server's master keys.
#[must_use]
pub fn lanes(policy: &Policy, keystore: &str, keys: &[KeyEntry], now: Timestamp) -> Vec<Lane> {
    let mut lanes = Vec::new();
    let mut series: BTreeMap<String, Vec<(u64, Timestamp, &KeyEntry)>> = BTreeMap::new();
    for key in keys {
        let periods = policy::periods(key);
        match (key.name(), key.name().master_key()) {
            (KeyName::Id(id), _) => {
                let period = |one: &policy::Period| Period {
                    version: one.version.to_string(),
                    from: one.from,
                    to: one.to,
                    late: is_late(policy, one.from, one.to, now),
                };
                lanes.push(Lane {
                    key: id.to_string(),
                    periods: periods.iter().map(period).collect(),
                    next_rotation: policy.next_rotation(keystore, key),
                });
            }
            (_, Some(master)) => {
                let Some(from) = periods.first().map(|period| period.from) else { continue };
                let name = format!("{} master key of server {}", master.kind, master.server);
                series.entry(name).or_default().push((master.number, from, key));
            }
            _ => {}
        }
    }
    lanes.extend(series.into_iter().map(|(name, keys)| lane_of(policy, keystore, name, keys, now)));
    lanes
}

/// MySQL's server gives each of its master keys a name of its own: one ends where the next begins.
fn lane_of(
    policy: &Policy,
    keystore: &str,
    name: String,
    mut keys: Vec<(u64, Timestamp, &KeyEntry)>,
    now: Timestamp,
) -> Lane {
    keys.sort_by_key(|(number, ..)| *number);
    let ends = keys.iter().skip(1).map(|(_, from, _)| Some(*from)).chain([None]);
    let period =
        |((number, from, _), to): (&(u64, Timestamp, &KeyEntry), Option<Timestamp>)| Period {
            version: number.to_string(),
            from: *from,
            to,
            late: is_late(policy, *from, to, now),
        };
    Lane {
        key: name,
        periods: keys.iter().zip(ends).map(period).collect(),
        next_rotation: keys.last().and_then(|(_, _, key)| policy.next_rotation(keystore, key)),
    }
}

fn is_late(policy: &Policy, from: Timestamp, to: Option<Timestamp>, now: Timestamp) -> bool {
    let lasted = to.unwrap_or(now).since(from);
    policy.rotate_after.is_some_and(|after| lasted > after.saturating_add(GRACE))
}
