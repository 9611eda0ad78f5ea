//! The requirements, standard by standard, in own words.

#![forbid(unsafe_code)]

use super::questions::{
    apart_from_data, backups, certificates, changes, cryptoperiod, custodians, destruction,
    distribution, dual_control, encryption, generation, inventory, monitoring, not_ours, owner,
    recovery, replacement, retirement, review, states, storage, strength, substitution, trail,
};
use super::{Answer, Rule};
use crate::report::model::Server;

const PCI: &str = "PCI DSS 4.0.1";
const NIST: &str = "NIST SP 800-57 part 1 rev. 5";
const ISO: &str = "ISO/IEC 27001:2022";
const HIPAA: &str = "HIPAA";
const SOC: &str = "SOC 2";
const DORA: &str = "DORA (RTS 2024/1774)";
const NIS2: &str = "NIS2 (2024/2690)";

/// All requirements, in the order of the report.
#[rustfmt::skip]
pub(super) static RULES: &[Rule] = &[
    rule(PCI, "3.6.1.1", "The architecture is described: of each key the algorithm, strength, purpose and end; of each HSM or KMS its kind and place; production and test share no key. (Asked of service providers.)", inventory),
    rule(PCI, "3.7.1", "Keys are generated strong.", |it| Answer::all([strength(it), generation(it)])),
    rule(PCI, "3.7.2", "Keys are distributed securely.", distribution),
    rule(PCI, "3.7.3", "Keys are stored securely: wrapped by a key at least as strong, which is kept elsewhere.", |it| Answer::all([storage(it), apart_from_data(it)])),
    rule(PCI, "3.7.4", "Keys change at the end of their cryptoperiod.", changes),
    rule(PCI, "3.7.5", "Keys are retired, replaced or destroyed when they are weakened, or when somebody may know them.", |it| Answer::all([retirement(it), destruction(it)])),
    rule(PCI, "3.7.6", "Where people handle keys in plain text, it takes two of them, and no one knows a whole key.", dual_control),
    rule(PCI, "3.7.7", "Nobody can put another key in a key's place.", substitution),
    rule(PCI, "3.7.8", "Custodians have acknowledged their duty in writing.", custodians),
    rule(PCI, "3.7.9", "Customers with whom keys are shared are told how to keep them. (Asked of service providers.)", |_| not_ours("Keys that are shared with customers are agreed outside of keyward.")),
    rule(PCI, "12.3.3", "The ciphers and protocols in use are listed, and reviewed once a year.", review),

    rule(NIST, "5.3", "Each key has a cryptoperiod: up to two years of encryption for a key of data.", cryptoperiod),
    rule(NIST, "5.6", "Algorithms and lengths give at least 112 bits of security; 128 beyond 2030.", strength),
    rule(NIST, "6.2", "Keys are protected where they are kept: against disclosure, change and loss.", |it| Answer::all([storage(it), substitution(it)])),
    rule(NIST, "7", "Each key is in a known state (pre-active, active, deactivated, compromised, destroyed), and each change is dated.", states),
    rule(NIST, "8.2.2, 8.3.1", "Keys are backed up or archived, and can be recovered.", |it| Answer::all([backups(it), recovery(it)])),
    rule(NIST, "8.3.4", "Keys that nobody needs any more are destroyed.", destruction),
    rule(NIST, "8.3.5, 9.3.4", "Compromised keys are marked and replaced.", retirement),
    rule(NIST, "9.2", "Who did what with keys is on record, and the record is protected.", trail),

    rule(ISO, "A.8.24, rules", "There are rules for cryptography, and somebody answers for them.", |it| owner(it).but("the written rules.")),
    rule(ISO, "A.8.24, life", "Keys are generated, kept, changed, retired and destroyed by these rules.", |it| Answer::all([generation(it), storage(it), changes(it), retirement(it), destruction(it)])),
    rule(ISO, "A.8.24, sample", "Of a sample of keys: owner, who approved it, last renewal, place and length.", |it| Answer::all([owner(it), inventory(it)])),
    rule(ISO, "A.8.24, log", "The management of keys is logged and audited.", trail),

    rule(HIPAA, "164.312(a)(2)(iv)", "Stored health data is encrypted.", |it| encryption(it).but("which data is health data.")),
    rule(HIPAA, "164.402, SP 800-111", "For data that is lost to count as unreadable, its keys are kept on another device than the data.", apart_from_data),
    rule(HIPAA, "164.308(a)(7)(ii)", "There are backups, and a way back that was tried.", |it| Answer::all([backups(it), recovery(it)])),
    rule(HIPAA, "164.312(b)", "Activity is recorded and can be examined.", trail),

    rule(SOC, "CC6.1", "Stored data is encrypted, and its keys are protected during their whole life.", |it| Answer::all([encryption(it), storage(it), changes(it)])),
    rule(SOC, "CC6.5", "Keys and data that nobody needs any more become unreadable.", destruction),
    rule(SOC, "CC7.2", "What is done to keys is watched for anomalies.", monitoring),
    rule(SOC, "CC8.1", "Changes of keys have an author and a reason.", trail),
    rule(SOC, "A1.2, A1.3", "There are backups, and getting back from them was tried.", |it| Answer::all([backups(it), recovery(it)])),

    rule(DORA, "art. 7(1)", "Keys are managed through their whole life: generating, renewing, storing, backing up, archiving, retrieving, transmitting, retiring, revoking, destroying.", |it| Answer::all([generation(it), changes(it), storage(it), backups(it), retirement(it), destruction(it)])),
    rule(DORA, "art. 7(2)", "Keys are protected against loss, unauthorised access, disclosure and change.", |it| Answer::all([storage(it), substitution(it), apart_from_data(it)])),
    rule(DORA, "art. 7(3)", "Keys that are lost, compromised or damaged can be replaced.", replacement),
    rule(DORA, "art. 7(4)", "There is a register of certificates and of the devices that hold them, kept up to date.", |it| not_ours("The certificates of the configured key stores are in this report; the register of all others is kept elsewhere.").with(certificates(it))),
    rule(DORA, "art. 7(5)", "Certificates are renewed before they end.", certificates),

    rule(NIS2, "annex, 9.2(c) i", "Keys are generated by a method that is set.", |it| Answer::all([generation(it), strength(it)])),
    rule(NIS2, "annex, 9.2(c) ii", "Certificates of public keys are issued and obtained by a method that is set.", |it| not_ours("Who issues certificates, and how, is agreed outside of keyward.").with(certificates(it))),
    rule(NIS2, "annex, 9.2(c) iii, iv", "Keys are distributed and stored, and it is set who gets at them.", |it| Answer::all([distribution(it), storage(it)])),
    rule(NIS2, "annex, 9.2(c) v, xii", "Keys change by rules, and have dates on which their use begins and ends.", changes),
    rule(NIS2, "annex, 9.2(c) vi, vii", "Compromised keys are dealt with, and keys are withdrawn.", retirement),
    rule(NIS2, "annex, 9.2(c) viii, ix", "Keys are backed up or archived, and lost or damaged ones recovered.", |it| Answer::all([backups(it), recovery(it)])),
    rule(NIS2, "annex, 9.2(c) x", "Keys are destroyed by a method that is set.", destruction),
    rule(NIS2, "annex, 9.2(c) xi", "The management of keys is logged and audited.", trail),
    rule(NIS2, "annex, 9.3", "Rules and methods are reviewed at planned intervals.", |it| review(it).but("the review of the policy itself.")),
];

const fn rule(
    standard: &'static str,
    number: &'static str,
    requirement: &'static str,
    judge: fn(&Server) -> Answer,
) -> Rule {
    Rule { standard, number, requirement, judge }
}
