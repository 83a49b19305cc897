//! Pipeline stages and label filters.

use super::grammar::{Parsed, Parser, number};
use super::lexer::Kind;
use crate::ast::*;

impl Parser {
    /// Stages up to whatever is none; with `allow_unwrap` possibly ended by an `unwrap` and its filters.
    pub(super) fn pipeline(&mut self, allow_unwrap: bool) -> Parsed<(Vec<Stage>, Option<Unwrap>)> {
        let mut stages = Vec::new();
        loop {
            if let Kind::Word(word) = *self.peek()
                && let Some(op) = LineOp::from_word(word)
            {
                self.advance();
                stages.push(Stage::LineFilter(self.line_filter(op)?));
                continue;
            }
            if !self.is("|") {
                return Ok((stages, None));
            }
            self.advance();
            if allow_unwrap && self.eat("unwrap") {
                return Ok((stages, Some(self.unwrap()?)));
            }
            stages.push(self.stage()?);
        }
    }

    fn line_filter(&mut self, op: LineOp) -> Parsed<LineFilter> {
        let mut operands = vec![self.line_operand()?];
        while self.is("or") {
            self.advance();
            operands.push(self.line_operand()?);
        }
        Ok(LineFilter { op, operands })
    }

    fn line_operand(&mut self) -> Parsed<LineOperand> {
        if *self.peek() == Kind::Function("ip") {
            return Ok(LineOperand::Ip(self.ip()?));
        }
        match self.peek() {
            Kind::Text(text) => {
                let text = text.to_string();
                self.advance();
                Ok(LineOperand::Text(text))
            }
            _ => self.unexpected(&["STRING", "ip"]),
        }
    }

    fn ip(&mut self) -> Parsed<String> {
        self.advance();
        self.expect("(")?;
        let pattern = self.text()?.to_string();
        self.expect(")")?;
        Ok(pattern)
    }

    fn unwrap(&mut self) -> Parsed<Unwrap> {
        let conversion = match self.peek() {
            Kind::Function(word) => Conversion::from_word(word),
            _ => Some(Conversion::Number),
        };
        let expecting = ["IDENTIFIER", "BYTES_CONV", "DURATION_CONV", "DURATION_SECONDS_CONV"];
        let Some(conversion) = conversion else { return self.unexpected(&expecting) };
        let label = if conversion == Conversion::Number {
            if !matches!(self.peek(), Kind::Identifier(_)) {
                return self.unexpected(&expecting);
            }
            self.identifier()?
        } else {
            self.advance();
            self.expect("(")?;
            let label = self.identifier()?;
            self.expect(")")?;
            label
        };
        let mut filters = Vec::new();
        while self.eat("|") {
            filters.push(self.label_filter()?);
        }
        Ok(Unwrap { label, conversion, filters })
    }

    fn stage(&mut self) -> Parsed<Stage> {
        let Kind::Word(word) = *self.peek() else { return self.label_filter().map(Stage::LabelFilter) };
        match word {
            "json" => {
                self.advance();
                Ok(Stage::Json(self.extractions()?))
            }
            "logfmt" => {
                self.advance();
                let (mut strict, mut keep_empty) = (false, false);
                while let Kind::Flag(flag) = *self.peek() {
                    strict |= flag == "--strict";
                    keep_empty |= flag == "--keep-empty";
                    self.advance();
                }
                Ok(Stage::Logfmt { strict, keep_empty, extractions: self.extractions()? })
            }
            "regexp" => {
                self.advance();
                Ok(Stage::Regexp(self.text()?.to_string()))
            }
            "pattern" => {
                self.advance();
                Ok(Stage::Pattern(self.text()?.to_string()))
            }
            "unpack" => {
                self.advance();
                Ok(Stage::Unpack)
            }
            "line_format" => {
                self.advance();
                Ok(Stage::LineFormat(self.text()?.to_string()))
            }
            "decolorize" => {
                self.advance();
                Ok(Stage::Decolorize)
            }
            "label_format" => {
                self.advance();
                let mut formats = vec![self.label_format()?];
                while self.eat(",") {
                    formats.push(self.label_format()?);
                }
                Ok(Stage::LabelFormat(formats))
            }
            "drop" => {
                self.advance();
                Ok(Stage::Drop(self.label_selections()?))
            }
            "keep" => {
                self.advance();
                Ok(Stage::Keep(self.label_selections()?))
            }
            _ => self.label_filter().map(Stage::LabelFilter),
        }
    }

    fn extractions(&mut self) -> Parsed<Vec<Extraction>> {
        let mut extractions = Vec::new();
        if !matches!(self.peek(), Kind::Identifier(_)) {
            return Ok(extractions);
        }
        loop {
            let label = self.identifier()?;
            let expression = if self.eat("=") { self.text()?.to_string() } else { label.clone() };
            extractions.push(Extraction { label, expression });
            if !self.eat(",") {
                return Ok(extractions);
            }
        }
    }

    fn label_format(&mut self) -> Parsed<LabelFormat> {
        let label = self.identifier()?;
        self.expect("=")?;
        let source = match self.peek() {
            Kind::Text(text) => FormatSource::Template(text.to_string()),
            Kind::Identifier(name) => FormatSource::Label(name.to_string()),
            _ => return self.unexpected(&["IDENTIFIER", "STRING"]),
        };
        self.advance();
        Ok(LabelFormat { label, source })
    }

    fn label_selections(&mut self) -> Parsed<Vec<LabelSelection>> {
        let mut selections = Vec::new();
        loop {
            let name = self.identifier()?;
            selections.push(match self.peek() {
                Kind::Word("=" | "!=" | "=~" | "!~") => LabelSelection::Match(self.matcher(name, &[])?),
                _ => LabelSelection::Name(name),
            });
            if !self.eat(",") {
                return Ok(selections);
            }
        }
    }

    /// A whole label filter.
    fn label_filter(&mut self) -> Parsed<LabelFilter> {
        self.label_or()
    }

    fn starts_filter(&self) -> bool {
        matches!(self.peek(), Kind::Identifier(_)) || self.is("(")
    }

    fn label_or(&mut self) -> Parsed<LabelFilter> {
        let mut left = self.label_and()?;
        while self.eat("or") {
            self.operator()?;
            let right = self.label_and()?;
            left = LabelFilter::Or(Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn label_and(&mut self) -> Parsed<LabelFilter> {
        let mut left = self.label_run()?;
        while self.eat("and") {
            self.operator()?;
            let right = self.label_run()?;
            left = LabelFilter::And(Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    /// An operand; comma or juxtaposition joins it with all that follows: `a or b, c or d` is `a or (b and (c or d))`.
    fn label_run(&mut self) -> Parsed<LabelFilter> {
        let left = self.label_atom()?;
        if !self.eat(",") && !self.starts_filter() {
            return Ok(left);
        }
        let right = self.deeper(Self::label_filter)?;
        Ok(LabelFilter::And(Box::new(left), Box::new(right)))
    }

    fn label_atom(&mut self) -> Parsed<LabelFilter> {
        if self.eat("(") {
            let inner = self.deeper(Self::label_filter)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let Kind::Identifier(_) = self.peek() else { return self.unexpected(&[]) };
        let name = self.identifier()?;
        let Kind::Word(op) = *self.peek() else { return self.unexpected(&[]) };
        match (op, self.peek_second()) {
            ("=" | "!=", Kind::Text(_)) | ("=~" | "!~", _) => {
                Ok(LabelFilter::Match(self.matcher(name, &[])?))
            }
            ("=" | "!=", Kind::Function("ip")) => {
                self.advance();
                Ok(LabelFilter::Ip { name, negated: op == "!=", pattern: self.ip()? })
            }
            _ => {
                let op = match op {
                    "=" => CompareOp::Equal,
                    op => match CompareOp::from_word(op) {
                        Some(op) => op,
                        None => return self.unexpected(&[]),
                    },
                };
                self.advance();
                Ok(LabelFilter::Compare { name, op, value: self.literal()? })
            }
        }
    }

    fn literal(&mut self) -> Parsed<Literal> {
        let negative = self.is("-");
        let signed = self.eat("-") || self.eat("+");
        let value = match self.peek().clone() {
            Kind::Number(text) => {
                let value = number(&text)?;
                Literal::Number(if negative { -value } else { value })
            }
            Kind::Duration(nanos) if !signed => Literal::Duration(nanos),
            Kind::Bytes(bytes) if !signed => Literal::Bytes(bytes),
            _ if signed => return self.unexpected(&["NUMBER"]),
            _ => return self.unexpected(&["BYTES", "NUMBER", "DURATION"]),
        };
        self.advance();
        Ok(value)
    }
}
