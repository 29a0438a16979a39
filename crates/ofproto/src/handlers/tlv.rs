//! The table of tunnel options: which option of a tunnel header is which `tun_metadata` field.

use std::sync::Arc;

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::message::Message;
use ferrovs_openflow::switch::{TlvMap, TlvTableCommand, TlvTableMod, TlvTableReply};
use ferrovs_packet::field::{TUN_METADATA_FIELDS, TunTable, TunTableError};
use ferrovs_packet::flow::TUN_METADATA_BYTES;

use super::{Handled, Request};
use crate::connmgr::Reply;

fn error(e: TunTableError) -> OfpErr {
    match e {
        TunTableError::AlreadyMapped => OfpErr::NXTTMFC_ALREADY_MAPPED,
        TunTableError::DupEntry => OfpErr::NXTTMFC_DUP_ENTRY,
        TunTableError::BadIndex => OfpErr::NXTTMFC_BAD_FIELD_IDX,
        TunTableError::BadLength => OfpErr::NXTTMFC_BAD_OPT_LEN,
        TunTableError::TableFull => OfpErr::NXTTMFC_TABLE_FULL,
    }
}

impl Request<'_> {
    pub(super) fn tlv_table_mod(&mut self, m: TlvTableMod) -> Handled {
        let mut table = TunTable::clone(&self.ofproto.tun_table);
        match m.command {
            TlvTableCommand::Add => {
                for map in &m.maps {
                    let index = usize::from(map.index);
                    table
                        .add(index, map.option_class, map.option_type, map.option_len)
                        .map_err(error)?;
                }
            }
            TlvTableCommand::Delete => {
                for map in &m.maps {
                    let index = usize::from(map.index);
                    let slot = table
                        .slots
                        .get(index)
                        .ok_or(OfpErr::NXTTMFC_BAD_FIELD_IDX)?;
                    let same = slot.is_some_and(|s| {
                        (s.class, s.ty, s.len)
                            == (map.option_class, map.option_type, map.option_len)
                    });
                    if !same {
                        return Err(OfpErr::NXTTMFC_INVALID_TLV_DEL);
                    }
                    table.remove(index);
                }
            }
            TlvTableCommand::Clear => table = TunTable::default(),
        }
        self.ofproto.tun_table = Arc::new(table);
        let table = self.ofproto.tun_table.clone();
        self.ofproto.tables.set_tun_table(table);
        self.ofproto.dirty = true;
        Ok(Reply::None)
    }

    pub(super) fn tlv_table(&mut self) -> Handled {
        let slots = self.ofproto.tun_table.slots.iter().enumerate();
        let maps = slots.filter_map(|(index, slot)| {
            let slot = (*slot)?;
            Some(TlvMap {
                option_class: slot.class,
                option_type: slot.ty,
                option_len: slot.len,
                index: index as u16,
            })
        });
        let reply = TlvTableReply {
            max_option_space: TUN_METADATA_BYTES as u32,
            max_fields: TUN_METADATA_FIELDS as u16,
            maps: maps.collect(),
        };
        Ok(Reply::Message(Message::TlvTableReply(reply)))
    }
}
