//! RFC 2136 case by case, against the pure judge.

use hickory_proto::op::{MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, CNAME, MX, NS, SOA};

use super::*;
use stead_dns::convert;

fn n(text: &str) -> Name {
    convert::name(text).unwrap()
}

fn zone() -> Zone {
    let mut zone = Zone::empty(n("lab.example"));
    zone.apply(Zone::first_delta(&n("lab.example"), &n("ns.lab.example")));
    let set = |values: &[u8]| {
        let data = values.iter().map(|v| RData::A(A::new(127, 0, 0, *v)));
        Some(Arc::new(RrSet {
            ttl: 30,
            data: data.collect(),
        }))
    };
    let cname = RrSet {
        ttl: 30,
        data: vec![RData::CNAME(CNAME(n("a.lab.example")))],
    };
    zone.apply(vec![
        (n("a.lab.example"), RecordType::A, set(&[6, 8])),
        (n("c.lab.example"), RecordType::CNAME, Some(Arc::new(cname))),
    ]);
    zone
}

fn a(owner: &str, last: u8) -> Record {
    Record::from_rdata(n(owner), 30, RData::A(A::new(127, 0, 0, last)))
}

fn bare(owner: &str, rtype: RecordType, class: DNSClass) -> Record {
    let mut record = Record::update0(n(owner), 0, rtype);
    record.dns_class = class;
    record
}

fn with(mut record: Record, class: DNSClass, ttl: u32) -> Record {
    record.dns_class = class;
    record.ttl = ttl;
    record
}

fn update(prerequisites: Vec<Record>, updates: Vec<Record>) -> Message {
    let mut message = Message::new(1, MessageType::Query, OpCode::Update);
    message.add_zone(Query::query(n("lab.example"), RecordType::SOA));
    message.add_pre_requisites(prerequisites);
    message.add_updates(updates);
    message
}

fn judged(prerequisites: Vec<Record>, updates: Vec<Record>) -> Result<Zone, ResponseCode> {
    let mut zone = zone();
    let delta = judge(&zone, &update(prerequisites, updates), &Scope::zone(), 1000)?;
    zone.apply(delta);
    Ok(zone)
}

fn values(zone: &Zone, owner: &str) -> Vec<u8> {
    let set = zone.set(&n(owner), RecordType::A);
    let last = |data: &RData| match data {
        RData::A(a) => a.octets()[3],
        _ => 0,
    };
    set.map(|set| set.data.iter().map(last).collect())
        .unwrap_or_default()
}

// H2: {6,8} is not {6}, which hickory-server's own store takes for equal.
#[test]
fn h2_a_value_prerequisite_compares_the_whole_set() {
    let is = |values: &[u8]| {
        let set = values
            .iter()
            .map(|v| with(a("A.lab.example", *v), DNSClass::IN, 0));
        judged(set.collect(), vec![]).err()
    };
    assert_eq!(is(&[8, 6]), None);
    assert_eq!(is(&[8, 6, 6]), None, "a record said twice is one record");
    for wrong in [&[6][..], &[6, 7], &[6, 8, 9]] {
        assert_eq!(is(wrong), Some(ResponseCode::NXRRSet), "{wrong:?}");
    }
}

#[test]
fn prerequisites_of_presence_and_absence() {
    use DNSClass::{ANY, NONE};
    use RecordType::{A, AAAA};
    let code = |owner: &str, rtype, class| judged(vec![bare(owner, rtype, class)], vec![]).err();
    assert_eq!(code("a.lab.example", A, ANY), None);
    assert_eq!(
        code("a.lab.example", AAAA, ANY),
        Some(ResponseCode::NXRRSet)
    );
    assert_eq!(code("a.lab.example", A, NONE), Some(ResponseCode::YXRRSet));
    assert_eq!(code("a.lab.example", AAAA, NONE), None);
    assert_eq!(code("a.lab.example", RecordType::ANY, ANY), None);
    assert_eq!(
        code("b.lab.example", RecordType::ANY, ANY),
        Some(ResponseCode::NXDomain)
    );
    assert_eq!(
        code("a.lab.example", RecordType::ANY, NONE),
        Some(ResponseCode::YXDomain)
    );
    assert_eq!(code("b.lab.example", RecordType::ANY, NONE), None);
    assert_eq!(code("badlab.example", A, NONE), Some(ResponseCode::NotZone));
}

#[test]
fn malformed_messages_change_nothing() {
    let code = |p: Vec<Record>, u: Vec<Record>| judged(p, u).err();
    let form = Some(ResponseCode::FormErr);
    assert_eq!(
        code(vec![a("a.lab.example", 6)], vec![]),
        form,
        "a TTL in a prerequisite"
    );
    assert_eq!(
        code(vec![with(a("a.lab.example", 6), DNSClass::ANY, 0)], vec![]),
        form
    );
    assert_eq!(
        code(
            vec![],
            vec![bare("b.lab.example", RecordType::A, DNSClass::IN)]
        ),
        form
    );
    assert_eq!(
        code(vec![], vec![with(a("b.lab.example", 1), DNSClass::ANY, 0)]),
        form
    );
    assert_eq!(
        code(vec![], vec![with(a("b.lab.example", 1), DNSClass::NONE, 9)]),
        form
    );
    assert_eq!(
        code(vec![], vec![with(a("b.lab.example", 1), DNSClass::CH, 0)]),
        form
    );
    let elsewhere = vec![a("b.lab.example", 1), a("b.other.example", 1)];
    assert_eq!(code(vec![], elsewhere), Some(ResponseCode::NotZone));
    let mx = RData::MX(MX::new(1, n("a.lab.example")));
    let mx = Record::from_rdata(n("b.lab.example"), 30, mx);
    assert_eq!(
        code(vec![], vec![mx]),
        Some(ResponseCode::Refused),
        "types that are not served"
    );
}

#[test]
fn another_zone_is_notauth() {
    let zone = zone();
    let mut message = Message::new(1, MessageType::Query, OpCode::Update);
    message.add_zone(Query::query(n("other.example"), RecordType::SOA));
    let code = judge(&zone, &message, &Scope::zone(), 1000).unwrap_err();
    assert_eq!(code, ResponseCode::NotAuth);
}

#[test]
fn a_replacement_is_one_delta() {
    let zone = judged(
        vec![],
        vec![
            bare("a.lab.example", RecordType::A, DNSClass::ANY),
            a("a.lab.example", 9),
            a("a.lab.example", 9),
        ],
    )
    .unwrap();
    assert_eq!(values(&zone, "a.lab.example"), [9]);
    assert_eq!(zone.soa().unwrap().serial, 2);
}

#[test]
fn what_changes_nothing_leaves_the_serial() {
    let zone = judged(vec![], vec![a("a.lab.example", 6)]).unwrap();
    assert_eq!(zone.soa().unwrap().serial, 1);
    let zone = judged(
        vec![],
        vec![bare("b.lab.example", RecordType::A, DNSClass::ANY)],
    )
    .unwrap();
    assert_eq!(zone.soa().unwrap().serial, 1);
}

#[test]
fn single_records_come_and_go() {
    let zone = judged(
        vec![],
        vec![
            a("a.lab.example", 9),
            with(a("a.lab.example", 6), DNSClass::NONE, 0),
        ],
    );
    assert_eq!(values(&zone.unwrap(), "a.lab.example"), [8, 9]);
    let gone = [6, 8].map(|v| with(a("a.lab.example", v), DNSClass::NONE, 0));
    let zone = judged(vec![], gone.to_vec()).unwrap();
    assert!(zone.set(&n("a.lab.example"), RecordType::A).is_none());
}

// Pitfall: what the rules forbid is left out without a word (RFC 2136 section 3.4.2).
#[test]
fn a_cname_beside_others_and_others_beside_a_cname_are_left_out() {
    let cname = RData::CNAME(CNAME(n("b.lab.example")));
    let zone = judged(
        vec![],
        vec![
            Record::from_rdata(n("a.lab.example"), 30, cname.clone()),
            a("c.lab.example", 1),
        ],
    )
    .unwrap();
    assert!(zone.set(&n("a.lab.example"), RecordType::CNAME).is_none());
    assert_eq!(values(&zone, "c.lab.example"), [0; 0]);
    let replaced = judged(
        vec![],
        vec![Record::from_rdata(n("c.lab.example"), 30, cname.clone())],
    );
    let set = replaced
        .unwrap()
        .set(&n("c.lab.example"), RecordType::CNAME)
        .cloned();
    assert_eq!(set.unwrap().data, [cname], "a CNAME replaces a CNAME");
}

#[test]
fn the_apex_keeps_its_soa_and_its_last_ns() {
    let ns = RData::NS(NS(n("ns.lab.example")));
    let apex = n("lab.example");
    let zone = judged(
        vec![],
        vec![
            with(Record::from_rdata(apex.clone(), 0, ns), DNSClass::NONE, 0),
            bare("lab.example", RecordType::NS, DNSClass::ANY),
            bare("lab.example", RecordType::SOA, DNSClass::ANY),
            bare("lab.example", RecordType::ANY, DNSClass::ANY),
        ],
    )
    .unwrap();
    assert!(zone.set(&apex, RecordType::NS).is_some() && zone.soa().is_some());
}

#[test]
fn only_a_later_soa_replaces_the_soa() {
    let serial = |serial| {
        let soa = SOA::new(n("ns.lab.example"), n("x.lab.example"), serial, 1, 1, 1, 1);
        let record = Record::from_rdata(n("lab.example"), 60, RData::SOA(soa));
        judged(vec![], vec![record, a("b.lab.example", 1)])
            .unwrap()
            .soa()
            .unwrap()
            .serial
    };
    assert_eq!(serial(50), 50);
    assert_eq!(
        serial(1),
        2,
        "not later: left out, and the serial rises as always"
    );
    assert_eq!(serial(0x8000_0002), 2, "behind, in serial arithmetic");
}

#[test]
fn the_zone_and_its_sets_are_bounded() {
    let many: Vec<Record> = (0..=255).map(|v| a("b.lab.example", v)).collect();
    let code = |max| judge(&zone(), &update(vec![], many.clone()), &Scope::zone(), max).err();
    assert_eq!(code(300), None);
    assert_eq!(code(200), Some(ResponseCode::Refused));
    let texts = (0..300).map(|i| {
        let text = format!("{i} {}", "x".repeat(240));
        Record::from_rdata(n("t.lab.example"), 30, convert::txt(&text))
    });
    let code = judge(
        &zone(),
        &update(vec![], texts.collect()),
        &Scope::zone(),
        1000,
    )
    .err();
    assert_eq!(
        code,
        Some(ResponseCode::Refused),
        "no answer could carry it"
    );
}

#[test]
fn h22_one_record_out_of_scope_refuses_the_whole_message() {
    let scope = Scope::alias("p01.lab.example").unwrap();
    let code = |updates| judge(&zone(), &update(vec![], updates), &scope, 1000).err();
    assert_eq!(code(vec![a("p01.lab.example", 1)]), None);
    let both = vec![a("p01.lab.example", 1), a("p02.lab.example", 1)];
    assert_eq!(code(both), Some(ResponseCode::Refused));
}
