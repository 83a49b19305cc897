//! Metric expressions: aggregations, binary operations, literals; and selectors.

use std::rc::Rc;

use model::{MatchOp, Matcher};

use super::lexer::{Kind, Token, unexpected};
use crate::ast::*;
use crate::error::ParseError;

/// Nesting beyond this is refused instead of exhausting the stack.
const MAX_DEPTH: usize = 96;
/// So many operators may join operands, for the same reason.
const MAX_OPERATORS: usize = 1000;

pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    operators: usize,
}

pub(super) type Parsed<T> = Result<T, ParseError>;

pub(super) fn invalid<T>(text: impl Into<String>) -> Parsed<T> {
    Err(ParseError::Invalid(text.into()))
}

/// What stands between the parentheses of a range aggregation.
struct RangeSelection {
    log: LogExpr,
    unwrap: Option<Unwrap>,
    range: Option<(i64, i64)>,
}

impl Parser {
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, at: 0, depth: 0, operators: 0 }
    }

    pub(super) fn query(mut self) -> Parsed<Expr> {
        let expr = self.expr(0)?;
        match self.peek() {
            Kind::End => Ok(expr),
            _ => self.unexpected(&[]),
        }
    }

    pub(super) fn peek(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    pub(super) fn peek_second(&self) -> &Kind {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    pub(super) fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    pub(super) fn unexpected<T>(&self, expecting: &[&str]) -> Parsed<T> {
        Err(unexpected(&self.tokens[self.at], expecting))
    }

    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(w) if *w == word)
    }

    pub(super) fn eat(&mut self, word: &str) -> bool {
        let found = self.is(word);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.eat(word) { Ok(()) } else { self.unexpected(&[word]) }
    }

    pub(super) fn identifier(&mut self) -> Parsed<String> {
        match self.peek() {
            Kind::Identifier(name) => {
                let name = name.to_string();
                self.advance();
                Ok(name)
            }
            _ => self.unexpected(&["IDENTIFIER"]),
        }
    }

    pub(super) fn text(&mut self) -> Parsed<Rc<str>> {
        match self.peek() {
            Kind::Text(text) => {
                let text = text.clone();
                self.advance();
                Ok(text)
            }
            _ => self.unexpected(&["STRING"]),
        }
    }

    pub(super) fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return invalid(format!("query is nested deeper than {MAX_DEPTH} levels"));
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Counts an operator between operands.
    pub(super) fn operator(&mut self) -> Parsed<()> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return invalid(format!("query has more than {MAX_OPERATORS} operators"));
        }
        Ok(())
    }

    /// An operand followed by operators that bind at least as tightly as `least`.
    fn expr(&mut self, least: u8) -> Parsed<Expr> {
        self.deeper(|p| p.expr_inner(least))
    }

    fn expr_inner(&mut self, least: u8) -> Parsed<Expr> {
        let mut left = self.operand()?;
        while let Some(op) = self.binary_op()
            && op.precedence() >= least.max(1)
        {
            self.advance();
            self.operator()?;
            let bool_modifier = self.eat("bool");
            let matching = self.matching()?;
            let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let right = self.expr(next)?;
            left = binary(op, bool_modifier, matching, left, right)?;
        }
        Ok(left)
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        let Kind::Word(word) = self.peek() else { return None };
        Some(match *word {
            "or" => BinaryOp::Or,
            "and" => BinaryOp::And,
            "unless" => BinaryOp::Unless,
            "+" => BinaryOp::Add,
            "-" => BinaryOp::Sub,
            "*" => BinaryOp::Mul,
            "/" => BinaryOp::Div,
            "%" => BinaryOp::Mod,
            "^" => BinaryOp::Pow,
            word => BinaryOp::Compare(CompareOp::from_word(word)?),
        })
    }

    fn matching(&mut self) -> Parsed<Option<Matching>> {
        let on = self.is("on");
        if !self.eat("on") && !self.eat("ignoring") {
            return Ok(None);
        }
        let labels = self.label_list()?;
        let left = self.is("group_left");
        let group = if self.eat("group_left") || self.eat("group_right") {
            let include = if self.is("(") { self.label_list()? } else { Vec::new() };
            Some(GroupModifier { left, include })
        } else {
            None
        };
        Ok(Some(Matching { on, labels, group }))
    }

    fn label_list(&mut self) -> Parsed<Vec<String>> {
        self.expect("(")?;
        let mut labels = Vec::new();
        if self.eat(")") {
            return Ok(labels);
        }
        loop {
            labels.push(self.identifier()?);
            if self.eat(")") {
                return Ok(labels);
            }
            if !self.eat(",") {
                return self.unexpected(&[",", ")"]);
            }
        }
    }

    fn operand(&mut self) -> Parsed<Expr> {
        match self.peek().clone() {
            Kind::Word("{") => {
                let matchers = self.selector()?;
                let (stages, _) = self.pipeline(false)?;
                Ok(Expr::Log(LogExpr { matchers, stages }))
            }
            Kind::Word("(") => {
                self.advance();
                let inner = self.expr(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            Kind::Word(sign @ ("+" | "-")) => {
                self.advance();
                let Kind::Number(text) = self.peek().clone() else { return self.unexpected(&["NUMBER"]) };
                self.advance();
                let value = number(&text)?;
                Ok(Expr::Metric(MetricExpr::Number(if sign == "-" { -value } else { value })))
            }
            Kind::Number(text) => {
                self.advance();
                Ok(Expr::Metric(MetricExpr::Number(number(&text)?)))
            }
            Kind::Word("variants") => self.variants(),
            Kind::Function(word) => self.function(word).map(Expr::Metric),
            _ => self.unexpected(&[]),
        }
    }

    fn function(&mut self, word: &str) -> Parsed<MetricExpr> {
        if let Some(op) = RangeOp::from_word(word) {
            self.advance();
            return self.range_aggregation(op);
        }
        if let Some(op) = VectorOp::from_word(word) {
            self.advance();
            return self.vector_aggregation(op);
        }
        match word {
            "vector" => {
                self.advance();
                self.expect("(")?;
                let Kind::Number(text) = self.peek().clone() else { return self.unexpected(&["NUMBER"]) };
                self.advance();
                self.expect(")")?;
                Ok(MetricExpr::VectorOf(number(&text)?))
            }
            "label_replace" => {
                self.advance();
                self.expect("(")?;
                let inner = self.metric()?;
                let mut texts = Vec::new();
                for _ in 0..4 {
                    self.expect(",")?;
                    texts.push(self.text()?.to_string());
                }
                self.expect(")")?;
                let mut texts = texts.into_iter();
                let mut next = || texts.next().unwrap_or_default();
                let (dst, replacement, src, regex) = (next(), next(), next(), next());
                Ok(MetricExpr::LabelReplace(Box::new(LabelReplace { inner, dst, replacement, src, regex })))
            }
            _ => self.unexpected(&[]),
        }
    }

    /// An expression that must be a metric: a log expression is an error at the token after it.
    fn metric(&mut self) -> Parsed<MetricExpr> {
        match self.expr(0)? {
            Expr::Metric(metric) => Ok(metric),
            Expr::Log(_) => self.unexpected(&[]),
        }
    }

    fn range_aggregation(&mut self, op: RangeOp) -> Parsed<MetricExpr> {
        self.expect("(")?;
        let mut parameter = None;
        if let Kind::Number(text) = self.peek().clone() {
            self.advance();
            self.expect(",")?;
            parameter = Some(number(&text)?);
        }
        let selection = self.range_selection()?;
        let Some((range, offset)) = selection.range else { return self.unexpected(&[]) };
        self.expect(")")?;
        let grouping = self.grouping()?;
        let RangeSelection { log, unwrap, .. } = selection;
        Ok(MetricExpr::Range(RangeAggregation { op, parameter, log, unwrap, range, offset, grouping }))
    }

    /// `selector stages [5m] offset 1m`, with the range before or after the stages, in any number of parentheses.
    fn range_selection(&mut self) -> Parsed<RangeSelection> {
        if self.eat("(") {
            let mut inner = self.deeper(Self::range_selection)?;
            self.expect(")")?;
            if inner.range.is_none() {
                inner.range = self.range()?;
            }
            return Ok(inner);
        }
        if !self.is("{") {
            return self.unexpected(&[]);
        }
        let matchers = self.selector()?;
        let mut range = self.range()?;
        let (stages, unwrap) = self.pipeline(true)?;
        if range.is_none() {
            range = self.range()?;
        }
        Ok(RangeSelection { log: LogExpr { matchers, stages }, unwrap, range })
    }

    fn range(&mut self) -> Parsed<Option<(i64, i64)>> {
        let Kind::Range(range) = *self.peek() else { return Ok(None) };
        self.advance();
        if !self.eat("offset") {
            return Ok(Some((range, 0)));
        }
        let Kind::Duration(offset) = *self.peek() else { return self.unexpected(&["DURATION"]) };
        self.advance();
        Ok(Some((range, offset)))
    }

    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        let without = self.is("without");
        if !self.eat("by") && !self.eat("without") {
            return Ok(None);
        }
        Ok(Some(Grouping { without, labels: self.label_list()? }))
    }

    fn vector_aggregation(&mut self, op: VectorOp) -> Parsed<MetricExpr> {
        let mut grouping = self.grouping()?;
        self.expect("(")?;
        let mut parameter = None;
        if let (Kind::Number(text), Kind::Word(",")) = (self.peek().clone(), self.peek_second()) {
            self.advance();
            self.advance();
            parameter = Some(text);
        }
        let inner = Box::new(self.metric()?);
        self.expect(")")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let parameter = vector_parameter(op, parameter.as_deref())?;
        Ok(MetricExpr::Vector(VectorAggregation { op, parameter, inner, grouping }))
    }

    fn variants(&mut self) -> Parsed<Expr> {
        self.advance();
        self.expect("(")?;
        let mut metrics = vec![self.metric()?];
        while self.eat(",") {
            metrics.push(self.metric()?);
        }
        self.expect(")")?;
        self.expect("of")?;
        self.expect("(")?;
        let selection = self.range_selection()?;
        let Some((range, _)) = selection.range else { return self.unexpected(&["RANGE"]) };
        self.expect(")")?;
        Ok(Expr::Metric(MetricExpr::Variants { metrics, of: selection.log, range }))
    }

    pub(super) fn selector(&mut self) -> Parsed<Vec<Matcher>> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        if self.eat("}") {
            return Ok(matchers);
        }
        loop {
            let name = self.identifier()?;
            matchers.push(self.matcher(name, &["=", "=~", "!~", "!="])?);
            if self.eat("}") {
                return Ok(matchers);
            }
            if !self.eat(",") {
                return self.unexpected(&["}", ","]);
            }
        }
    }

    /// The operator and text of a matcher after its name.
    pub(super) fn matcher(&mut self, name: String, expecting: &[&str]) -> Parsed<Matcher> {
        let op = match self.peek() {
            Kind::Word("=") => MatchOp::Equal,
            Kind::Word("!=") => MatchOp::NotEqual,
            Kind::Word("=~") => MatchOp::Regex,
            Kind::Word("!~") => MatchOp::NotRegex,
            _ => return self.unexpected(expecting),
        };
        self.advance();
        let value = self.text()?;
        Matcher::new(name, op, &*value).map_err(|e| ParseError::Invalid(e.to_string()))
    }
}

/// The value of a number token.
pub(super) fn number(text: &str) -> Parsed<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse() {
        Ok(value) if plain => Ok(value),
        _ => invalid(format!("strconv.ParseFloat: parsing {}: invalid syntax", model::quote(text))),
    }
}

fn vector_parameter(op: VectorOp, text: Option<&str>) -> Parsed<Option<usize>> {
    let takes = matches!(op, VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk);
    match text {
        None if takes => invalid(format!("parameter required for operation {}", op.as_str())),
        None => Ok(None),
        Some(text) if !takes => {
            invalid(format!("unsupported parameter for operation {}({text},", op.as_str()))
        }
        Some(text) => match text.parse::<usize>() {
            Ok(0) => invalid(format!("invalid parameter (must be greater than 0) {}(0", op.as_str())),
            Ok(k) => Ok(Some(k)),
            Err(_) => invalid(format!("invalid parameter {}({text},", op.as_str())),
        },
    }
}

/// Joins two operands; operations between numbers are computed here.
fn binary(
    op: BinaryOp,
    bool_modifier: bool,
    matching: Option<Matching>,
    left: Expr,
    right: Expr,
) -> Parsed<Expr> {
    let leg = |side: &str, expr: Expr| match expr {
        Expr::Metric(metric) => Ok(metric),
        Expr::Log(log) => {
            let kind = if log.stages.is_empty() { "*syntax.MatchersExpr" } else { "*syntax.PipelineExpr" };
            invalid(format!("unexpected type for {side} leg of binary operation ({}): {kind}", op.as_str()))
        }
    };
    let (left, right) = (leg("left", left)?, leg("right", right)?);
    if op.is_set() {
        for (side, operand) in [("left", &left), ("right", &right)] {
            if let MetricExpr::Number(value) = operand {
                let op = op.as_str();
                return invalid(format!(
                    "unexpected literal for {side} leg of logical/set binary operation ({op}): {value}"
                ));
            }
        }
    }
    if let (MetricExpr::Number(a), MetricExpr::Number(b)) = (&left, &right) {
        return Ok(Expr::Metric(MetricExpr::Number(op.compute(*a, *b))));
    }
    Ok(Expr::Metric(MetricExpr::Binary(Box::new(Binary { op, bool_modifier, matching, left, right }))))
}
